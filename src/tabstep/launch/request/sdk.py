"""The door to SageMaker's SDK: imported here and nowhere above, since it takes seconds and changes the interpreter."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from tabstep.errors import UserError

INSTALL = 'pip install "tabstep[sagemaker]"'
# With a configuration of our own, defaults of a machine's sagemaker/config.yaml stay out of the request too: a dry run
# shows what any machine would send.
_CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


def require(*modules: str) -> None:
    """Check that the extra is installed, without importing it.

    Raises:
        UserError: it is not; says how to install it.
    """
    missing = [name for name in modules or ("sagemaker", "botocore") if find_spec(name) is None]
    if missing:
        raise UserError(f"launch: {' and '.join(missing)} cannot be imported: {INSTALL}")


@contextlib.contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Keep the SDK's prints off stdout, its warnings and its hook for exceptions out, and its log at ``level``."""
    hook = sys.excepthook
    os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
    for name in ("sagemaker", "sagemaker.config", "botocore", "botocore.credentials"):
        logging.getLogger(name).setLevel(level)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(), _unchecked():
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
    from botocore.exceptions import BotoCoreError

    with quiet():
        try:
            import sagemaker as module
        except BotoCoreError as error:  # it reads the machine's AWS configuration while it is imported
            raise UserError(f"launch: the AWS configuration of this machine: {error}") from error
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
    from botocore.exceptions import BotoCoreError

    try:
        region: str | None = botocore.session.Session().get_config_variable("region")
    except BotoCoreError as error:
        raise UserError(f"launch: the AWS configuration of this machine: {error}") from error
    return region


def boto_session(region: str, *, offline: bool = False) -> Any:
    """Return a boto3 session; ``offline`` has credentials that are none and reads no configuration of the machine."""
    require("boto3")
    import boto3
    import botocore.session

    if not offline:
        return boto3.Session(region_name=region)
    nowhere = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
    core = botocore.session.Session(session_vars=nowhere)
    core.set_credentials("offline", "offline")
    return boto3.Session(botocore_session=core, region_name=region)


def session(region: str, *, offline: bool = False, pipeline: bool = False, bucket: str | None = None) -> Any:
    """Return the SDK's session, its telemetry off.

    ``offline`` never asks for credentials; ``pipeline`` collects requests for a pipeline instead of sending them.
    ``bucket`` keeps the SDK from looking up a bucket of its own.
    """
    module = sagemaker()
    with quiet():
        boto = boto_session(region, offline=offline)
        options: dict[str, Any] = {"boto_session": boto, "sagemaker_config": _CONFIG, "default_bucket": bucket}
        # Made here since the SDK asks for a client of its own otherwise, with credentials.
        options["sagemaker_client"] = boto.client("sagemaker")
        if pipeline:
            from sagemaker.workflow.pipeline_context import PipelineSession

            return _with_bucket(PipelineSession(**options), bucket)
        return _with_bucket(module.Session(**options), bucket)


def pipeline_session(given: Any, *, bucket: str | None = None) -> Any:
    """Return a session that collects requests for a pipeline, with the credentials and clients of another session."""
    sagemaker()
    with quiet():
        from sagemaker.workflow.pipeline_context import PipelineSession

        made = PipelineSession(
            boto_session=given.boto_session,
            sagemaker_client=given.sagemaker_client,
            sagemaker_config=_CONFIG,
            default_bucket=bucket,
        )
        return _with_bucket(made, bucket)


def _with_bucket(session: Any, bucket: str | None) -> Any:
    """Keep the SDK from looking for the bucket that it was given, and from making it where it finds none."""
    if bucket is not None:
        session._default_bucket = bucket
    return session
