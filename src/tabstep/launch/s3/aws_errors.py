"""What AWS answers when it refuses, in the words of this program: the cause, the key to set, whether to try again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tabstep.errors import RetryError, UserError

MISSING: Final = ("404", "NoSuchKey", "NotFound")
"""Codes of an answer that there is no such object."""
_SIGN_IN: Final = "sign in again (`aws sso login`, or `aws configure`), or set AWS_PROFILE"
_UNKNOWN: Final = (
    "400",  # of a HEAD request, whose answer has no text to say that the token has expired
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
)
"""Codes of an answer to credentials that AWS does not know or takes no more."""
_POLICY: Final = "the policy for launching users, in policies/ of tabstep.launch, holds what is needed"
_REMEDIES: Final = {
    "AccessDenied": _POLICY,
    "AccessDeniedException": _POLICY,
    "403": _POLICY,
    "NoSuchBucket": "create it (`aws s3 mb s3://NAME`), or set launch.bucket",
    "PermanentRedirect": "the bucket lies in another region: set launch.region or launch.bucket",
    "ResourceInUse": "set launch.job_name to another one, or null",
    "ResourceLimitExceeded": "ask for more in Service Quotas, or set launch.instance_type to another one",
}
_AGAIN: Final = (
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "500",
    "502",
    "503",
    "504",
)


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


def code(error: Any) -> str:
    """Return the code of a ``ClientError``, such as ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(what: str, error: Any) -> Exception:
    reason = code(error)
    message = error.response.get("Error", {}).get("Message") or reason
    text = f"{what}: AWS refuses {error.operation_name}: {message}".rstrip(".")
    if reason in _UNKNOWN:
        expired = " (as for a token that has expired)" if reason == "400" else ""
        return CredentialsError(f"{text}{expired}: {_SIGN_IN}")
    if reason in _AGAIN:
        return RetryError(f"{text}: try again")
    return UserError(f"{text}: {_REMEDIES[reason]}" if reason in _REMEDIES else text)


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
