"""S3 as a rehearsal has it: a directory, with bucket and key as the path of a file."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabstep.container.container import CODE
from tabstep.errors import UserError
from tabstep.launch.request import sdk
from tabstep.launch.request.job_spec import split_uri
from tabstep.launch.s3.aws_errors import refusals
from tabstep.launch.s3.transfer import get, stored_keys

Files = Mapping[str, Path]
_PACKED = {"model.tar.gz": "model", "output.tar.gz": "output/data"}  # what of a container each archive is made of


def file_of(directory: Path, uri: str) -> Path:
    """Return the file that stands for an address, ready to be written."""
    file = directory.joinpath("s3", *split_uri(uri))
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def deposit(request: Mapping[str, Any], bases: Sequence[Path], directory: Path) -> dict[str, Path]:
    """Pack what containers leave, as the service does at the end of a job; return the files by address.

    Args:
        bases: ``/opt/ml`` of each host, the first one's files before those of the others.
    """
    places: dict[str, Path] = {}
    target = f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"
    for name, below in _PACKED.items():
        found = {path.name: path for base in reversed(bases) for path in sorted((base / below).iterdir())}
        if found:
            file = file_of(directory, f"{target}/{name}")
            with tarfile.open(file, mode="w:gz", compresslevel=1) as tar:
                for inside, path in sorted(found.items()):
                    tar.add(path, arcname=inside)
            places[f"{target}/{name}"] = file
    return places


def fetch(request: Mapping[str, Any], directory: Path, *, without: Mapping[str, Files]) -> dict[str, Files]:
    """Copy the channels of a request that lie on S3 to this machine; the source of the job is here already.

    Raises:
        UserError: there is nothing at an address, or AWS refuses.
        RetryError: AWS is out of reach.
    """
    fetched: dict[str, Files] = {}
    for channel in request.get("InputDataConfig", ()):
        name, uri = channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]
        if name not in without and name != CODE:
            fetched[name] = _download(uri, directory / name)
    return fetched


def _download(uri: str, directory: Path) -> dict[str, Path]:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = sdk.boto_session(sdk.configured_region() or "us-east-1").client("s3")
    with refusals(uri):
        keys = [key for key in stored_keys(client, bucket, prefix) if not key.endswith("/")]
    if not keys:
        raise UserError(f"{uri}: there is nothing to read")
    names = {key.removeprefix(prefix).lstrip("/") or key.rpartition("/")[2]: key for key in keys}
    for name, key in names.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        get(client, bucket, key, directory / name)
    return {name: directory / name for name in names}
