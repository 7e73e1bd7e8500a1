"""Sessions of SageMaker's SDK and of boto3; the SDK is imported late: it takes seconds and changes the interpreter."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tabstep.errors import UserError

INSTALL = 'pip install "tabstep[sagemaker]"'
# With a configuration of our own, defaults of a machine's sagemaker/config.yaml stay out of the request too: a dry run
# shows what any machine would send.
_CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
_WEB_IDENTITY = "assume-role-with-web-identity"


def require(*modules: str) -> None:
    """Check that the extra is installed, without importing it.

    Raises:
        UserError: it is not; says how to install it.
    """
    missing = [name for name in modules or ("sagemaker", "botocore") if find_spec(name) is None]
    if missing:
        raise UserError(f"launch: {' and '.join(missing)} cannot be imported: {INSTALL}")


@contextlib.contextmanager
def aws_configuration(*others: type[Exception]) -> Iterator[None]:
    """Turn what is wrong with the AWS configuration of this machine into one line; a dry run meets it too.

    Args:
        others: what Python raises of a setting in here that is no number or no address.

    Raises:
        UserError: a profile is unknown, a key without its secret, a file cannot be read.
    """
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except UserError:  # which is a ValueError too
        raise
    except (BotoCoreError, *others) as error:
        line = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"launch: the AWS configuration of this machine: {line}: set AWS_PROFILE, or run `aws configure`"
        ) from error


@contextlib.contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Keep the SDK's prints off stdout, its warnings and its hook for exceptions out, and its log at ``level``.

    Raises:
        UserError: the SDK, which makes clients of its own wherever it likes, cannot read this machine's configuration.
    """
    hook = sys.excepthook
    os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
    for name in ("sagemaker", "sagemaker.config", "botocore", "botocore.credentials"):
        logging.getLogger(name).setLevel(level)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(), _unchecked(), aws_configuration():
            warnings.simplefilter("ignore")  # of its own age, and of what is meant
            yield
    finally:
        sys.excepthook = hook


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Keep the SDK from checking its configuration, ours, against a schema twenty times a job: 1.5 s of CPU time."""
    utils = sys.modules.get("sagemaker.utils")
    check = getattr(utils, "validate_sagemaker_config", None)
    if utils is None or check is None:
        yield
        return
    utils.validate_sagemaker_config = lambda *_: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        utils.validate_sagemaker_config = check  # type: ignore[attr-defined]


def sagemaker() -> Any:
    """Import the SDK.

    Raises:
        UserError: it is not installed, or is of the line that has no estimators.
    """
    require()
    with quiet():  # it reads the machine's AWS configuration while it is imported
        import sagemaker as module

        if find_spec("sagemaker.pytorch") is None:
            raise UserError(f"launch: sagemaker 3 has no estimators: {INSTALL} installs a version that has them")
    return module


def configured_region() -> str | None:
    """Return the region that this machine's AWS configuration names.

    Raises:
        UserError: the configuration cannot be read.
    """
    require("botocore")
    import botocore.session

    with aws_configuration():
        region: str | None = botocore.session.Session().get_config_variable("region")
    return region


def boto_session(region: str) -> Any:
    """Return a boto3 session with this machine's credentials, if it has any.

    Raises:
        UserError: the configuration cannot be read.
    """
    require("boto3")
    import boto3
    import botocore.session

    with aws_configuration(ValueError, OSError):
        core = botocore.session.Session()
        session = boto3.Session(botocore_session=core, region_name=region)
        found = session.get_credentials()  # its clients look for them otherwise, each with errors of its own
        if found is not None and found.method == _WEB_IDENTITY:  # whose file is opened by the first call
            named = os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
            Path(core.get_scoped_config().get("web_identity_token_file") or named or "").read_bytes()
    return session


def client(boto: Any, service: str) -> Any:
    """Return a client of a boto3 session.

    Raises:
        UserError: a setting of this machine, such as AWS_ENDPOINT_URL or AWS_MAX_ATTEMPTS, makes no sense.
    """
    with aws_configuration(ValueError):
        return boto.client(service)


def offline_session(region: str) -> Any:
    """Return a boto3 session with credentials that are none, which reads no configuration of the machine."""
    require("boto3")
    import boto3
    import botocore.session

    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    nowhere = {"profile": (None, None, None, None), **files}
    core = botocore.session.Session(session_vars=nowhere)
    core.set_credentials("offline", "offline")
    return boto3.Session(botocore_session=core, region_name=region)


def session(boto: Any, bucket: str | None = None, *, pipeline: bool = False, given: Any = None) -> Any:
    """Return the SDK's session, its telemetry off.

    Args:
        boto: a session of boto3.
        bucket: keeps the SDK from looking up a bucket of its own, and from making it where it finds none.
        pipeline: collects requests for a pipeline instead of sending them.
        given: a client of SageMaker; None makes one, since the SDK asks for one of its own otherwise, with credentials.
    """
    module = sagemaker()
    with quiet():
        from sagemaker.workflow.pipeline_context import PipelineSession

        sdk_session = (PipelineSession if pipeline else module.Session)(
            boto_session=boto,
            sagemaker_client=given or client(boto, "sagemaker"),
            sagemaker_config=_CONFIG,
            default_bucket=bucket,
        )
    if bucket is not None:
        sdk_session._default_bucket = bucket
    return sdk_session
