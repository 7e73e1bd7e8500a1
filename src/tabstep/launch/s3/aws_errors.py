"""What AWS answers when it refuses, in the words of this program: the cause, the key to set, whether to try again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tabstep.errors import RetryError, UserError
from tabstep.launch.request.aws_facts import table

_CODES: Final = table("errors")
MISSING: Final = tuple(_CODES["missing"])
"""Codes of an answer that there is no such object."""
DENIED: Final = tuple(_CODES["denied"])
"""Codes of an answer that somebody may not do what was asked for."""
_SIGN_IN: Final = "sign in again (`aws sso login`, or `aws configure`), or set AWS_PROFILE"


class CredentialsError(UserError):
    """AWS does not take this machine's credentials: what was started with them before goes on without them."""


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what botocore raises into an error of ours whose text begins with ``what``.

    Raises:
        CredentialsError: there are no credentials, or AWS does not take them.
        UserError: AWS refuses.
        RetryError: it is out of reach or overloaded.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _answered(what, error) from error
    except BotoCoreError as error:
        raise _unanswered(what, error) from error


def code(error: BaseException) -> str:
    """Return the code of AWS's answer, such as ``NoSuchKey``: of a ``ClientError``, or of the one behind ours."""
    answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


def _answered(what: str, error: Any) -> Exception:
    reason = code(error)
    message = error.response.get("Error", {}).get("Message") or reason
    text = f"{what}: AWS refuses {error.operation_name}: {message}".rstrip(".")
    if reason in _CODES["credentials"]:
        # A HEAD request's answer has no text, and a token that has expired is a bad request.
        expired = " (as for a token that has expired)" if reason == "400" else ""
        return CredentialsError(f"{text}{expired}: {_SIGN_IN}")
    if reason in _CODES["again"]:
        return RetryError(f"{text}: try again")
    remedy = _CODES["remedies"].get("AccessDenied" if reason in DENIED else reason)
    return UserError(f"{text}: {remedy}" if remedy else text)


def _unanswered(what: str, error: Any) -> Exception:
    from botocore import exceptions

    unknown = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
        exceptions.ProfileNotFound,
    )
    line = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, unknown):
        return CredentialsError(f"{what}: no AWS credentials ({line}): {_SIGN_IN}")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.IncompleteReadError):
        return RetryError(f"{what}: AWS cannot be reached ({line}): try again")
    return UserError(f"{what}: {line}")
