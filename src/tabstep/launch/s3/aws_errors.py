"""What AWS answers when it refuses, in the words of this program: the cause, the key to set, whether to try again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tabstep.errors import RetryError, UserError

_SIGN_IN: Final = "sign in again (`aws sso login`, or `aws configure`), or set AWS_PROFILE"
_POLICY: Final = "the policy for launching users, in policies/ of tabstep.launch, holds what is needed"
_REMEDIES: Final = {
    "AccessDenied": _POLICY,
    "AccessDeniedException": _POLICY,
    "403": _POLICY,
    "ExpiredToken": _SIGN_IN,
    "ExpiredTokenException": _SIGN_IN,
    "InvalidAccessKeyId": _SIGN_IN,
    "InvalidClientTokenId": _SIGN_IN,
    "SignatureDoesNotMatch": _SIGN_IN,
    "UnrecognizedClientException": _SIGN_IN,
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


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what botocore raises into an error of ours whose text begins with ``what``.

    Raises:
        UserError: AWS refuses, or there are no credentials.
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
    found, answer = code(error), error.response.get("Error", {})
    text = f"{what}: AWS refuses {error.operation_name}: {answer.get('Message') or found}".rstrip(".")
    if found in _AGAIN:
        return RetryError(f"{text}: try again")
    return UserError(f"{text}: {_REMEDIES[found]}" if found in _REMEDIES else text)


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
    if isinstance(error, unknown):
        return UserError(f"{what}: no AWS credentials ({str(error).rstrip('.')}): {_SIGN_IN}")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.IncompleteReadError):
        return RetryError(f"{what}: AWS cannot be reached ({str(error).splitlines()[0].rstrip('.')}): try again")
    return UserError(f"{what}: {str(error).splitlines()[0].rstrip('.')}")
