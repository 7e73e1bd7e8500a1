"""What AWS refuses is told with a remedy; what may pass is told apart by the exit code."""

from __future__ import annotations

import pytest

from tabstep.errors import EXIT_RETRY, EXIT_USER, RetryError, UserError
from tabstep.launch.s3.aws_errors import refusals

pytest.importorskip("botocore")
from botocore import exceptions


def answered(code: str, message: str = "Because.") -> Exception:
    error: Exception = exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "CreateTrainingJob")
    return error


@pytest.mark.parametrize(
    ("error", "exit_code", "text"),
    [
        (
            answered("AccessDenied"),
            EXIT_USER,
            "job a: AWS refuses CreateTrainingJob: Because: the policy for launching users",
        ),
        (answered("ExpiredTokenException"), EXIT_USER, "sign in again"),
        (answered("400", "Bad Request"), EXIT_USER, "Bad Request (as for a token that has expired): sign in again"),
        (answered("ResourceInUse"), EXIT_USER, "set launch.job_name to another one, or null"),
        (answered("ResourceLimitExceeded"), EXIT_USER, "Service Quotas"),
        (answered("ValidationException", "bad"), EXIT_USER, "job a: AWS refuses CreateTrainingJob: bad"),
        (answered("Unknown", ""), EXIT_USER, "job a: AWS refuses CreateTrainingJob: Unknown"),
        (answered("ThrottlingException"), EXIT_RETRY, "Because: try again"),
        (exceptions.NoCredentialsError(), EXIT_USER, "no AWS credentials (Unable to locate credentials): sign in"),
        (exceptions.ProfileNotFound(profile="x"), EXIT_USER, "no AWS credentials (The config profile (x)"),
        (exceptions.EndpointConnectionError(endpoint_url="u"), EXIT_RETRY, "AWS cannot be reached"),
        (exceptions.ReadTimeoutError(endpoint_url="u"), EXIT_RETRY, "AWS cannot be reached"),
        (exceptions.NoRegionError(), EXIT_USER, "job a: You must specify a region"),
    ],
)
def test_refusal(error: Exception, exit_code: int, text: str) -> None:
    with pytest.raises((UserError, RetryError)) as caught, refusals("job a"):
        raise error
    found = caught.value
    assert isinstance(found, UserError | RetryError)
    assert found.exit_code == exit_code
    assert text in str(found)
    assert found.__cause__ is error


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), refusals("job a"):
        raise KeyError("fault")
