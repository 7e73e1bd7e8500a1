from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest

from tabstep.errors import UserError
from tabstep.launch.request import sdk


def test_a_missing_extra_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        sdk.require("no_such_module", "sys", "no_other")
    assert str(caught.value) == (
        'launch: no_such_module and no_other cannot be imported: pip install "tabstep[sagemaker]"'
    )


def test_an_sdk_without_estimators_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sagemaker")
    real = sdk.find_spec
    monkeypatch.setattr(sdk, "find_spec", lambda name: None if name == "sagemaker.pytorch" else real(name))
    with pytest.raises(UserError, match="sagemaker 3 has no estimators"):
        sdk.sagemaker()


def test_quiet_gives_back_what_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    hook = sys.excepthook
    with sdk.quiet():
        print("from the SDK")
        warnings.warn("from the SDK", UserWarning, stacklevel=1)
        sys.excepthook = lambda *_: None
    assert sys.excepthook is hook
    out, err = capsys.readouterr()
    assert (out, err) == ("", "from the SDK\n")


def test_a_session_of_a_pipeline_takes_the_clients_of_another() -> None:
    pytest.importorskip("sagemaker")
    given = sdk.session(sdk.offline_session("eu-west-1"), "my-bucket")
    made = sdk.session(given.boto_session, "other-bucket", pipeline=True, given=given.sagemaker_client)
    assert made.boto_session is given.boto_session
    assert made.sagemaker_client is given.sagemaker_client
    assert made.default_bucket() == "other-bucket"
    assert type(made).__name__ == "PipelineSession"


def test_region_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    pytest.importorskip("botocore")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    assert sdk.configured_region() is None
    file.write_text("[default]\nregion = eu-north-1\n")
    assert sdk.configured_region() == "eu-north-1"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with credentials and nothing else of AWS."""
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_MAX_ATTEMPTS", "many", "invalid literal for int() with base 10: 'many'"),
        ("AWS_ENDPOINT_URL_S3", "nowhere", "Invalid endpoint: nowhere"),
        ("AWS_RETRY_MODE", "often", 'Invalid value provided to "mode"'),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(
    credentials: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    pytest.importorskip("boto3")
    credentials.setenv(name, value)
    with pytest.raises(UserError) as caught:
        sdk.client(sdk.boto_session("eu-west-1"), "s3")
    assert str(caught.value).startswith(f"launch: the AWS configuration of this machine: {said}")
    assert "\n" not in str(caught.value)


def test_credentials_that_cannot_be_read_are_one_line(credentials: pytest.MonkeyPatch, tmp_path: Any) -> None:
    pytest.importorskip("boto3")
    credentials.delenv("AWS_ACCESS_KEY_ID")
    credentials.delenv("AWS_SECRET_ACCESS_KEY")
    credentials.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/job")
    credentials.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(
        UserError, match=r"the AWS configuration of this machine: .*No such file or directory: '.*token'"
    ):
        sdk.boto_session("eu-west-1")
    (tmp_path / "token").write_text("x")
    sdk.boto_session("eu-west-1")


def test_a_session_without_credentials_reads_no_file(credentials: pytest.MonkeyPatch, tmp_path: Any) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        (tmp_path / name).write_text("[default\n")
        credentials.setenv(name, str(tmp_path / name))
    assert sdk.client(sdk.offline_session("eu-west-1"), "sts").meta.region_name == "eu-west-1"
