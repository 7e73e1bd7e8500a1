"""What lies on S3 onto this machine: a job's artifact to where a run here leaves it, channels for a rehearsal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tabstep.container.container import CODE
from tabstep.errors import UserError
from tabstep.launch.archives import place_model, place_results
from tabstep.launch.request import sdk
from tabstep.launch.request.job_spec import split_uri
from tabstep.launch.s3.aws_errors import refusals
from tabstep.launch.s3.transfer import get, stored_keys
from tabstep.system.exits import write_failure

_MODEL: Final = "model.tar.gz"
_OUTPUT: Final = "output.tar.gz"


def download(artifact: str, client: Any, output: Path, model: Path, show: Callable[[str], None]) -> None:
    """Fetch ``model.tar.gz`` into the directory ``model`` and the ``output.tar.gz`` beside it into ``output``.

    What is there already under these names is replaced, each at once and whole.

    Raises:
        UserError: an archive is missing or damaged, or a directory cannot be written.
        RetryError: the connection was lost or the disk is full.
    """
    bucket, key = split_uri(artifact)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not get(client, bucket, key, output / _MODEL):
            raise UserError(f"{artifact}: is not there")
        place_model(output / _MODEL, output, model, show)
        (output / _MODEL).unlink()
        if get(client, bucket, f"{key.removesuffix(_MODEL)}{_OUTPUT}", output / _OUTPUT):
            place_results(output / _OUTPUT, output, show)
            (output / _OUTPUT).unlink()
    except OSError as error:
        raise write_failure(error, "paths.output_dir: cannot be written") from error


def fetch_channels(
    request: Mapping[str, Any], directory: Path, *, without: Mapping[str, Any]
) -> dict[str, Mapping[str, Path]]:
    """Copy the channels of a request that lie on S3 to this machine; the source of the job is here already.

    Raises:
        UserError: there is nothing at an address, or AWS refuses.
        RetryError: AWS is out of reach.
    """
    fetched: dict[str, Mapping[str, Path]] = {}
    for channel in request.get("InputDataConfig", ()):
        name, uri = channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]
        if name not in without and name != CODE:
            fetched[name] = _fetch_channel(uri, directory / name)
    return fetched


def _fetch_channel(uri: str, directory: Path) -> dict[str, Path]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = sdk.client(sdk.boto_session(sdk.configured_region() or "us-east-1"), "s3")
    with refusals(uri):
        keys = [key for key in stored_keys(client, bucket, prefix) if not key.endswith("/")]
    if not keys:
        raise UserError(f"{uri}: there is nothing to read")
    names = {key.removeprefix(prefix).lstrip("/") or key.rpartition("/")[2]: key for key in keys}
    for name, key in names.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        get(client, bucket, key, directory / name)
    return {name: directory / name for name in names}
