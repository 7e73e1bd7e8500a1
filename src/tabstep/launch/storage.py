"""S3 as a rehearsal has it: a directory, with bucket and key as the path of a file."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabstep.errors import UserError
from tabstep.launch import sdk
from tabstep.launch.spec import split_uri

Files = Mapping[str, Path]
_PACKED = {
    "model.tar.gz": "model",
    "output.tar.gz": "output/data",
}  # and the directory of a container that it is made of


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


def unpack(places: Files, *, output: Path, model: Path, host: str) -> dict[str, Any]:
    """Put model and results of a finished job where a local run has them, and return its report.

    Args:
        host: whose directory has the report, where each host has one of its own.
    """
    for address, file in places.items():
        with tarfile.open(file, mode="r:gz") as tar:
            if address.endswith("/model.tar.gz"):
                shutil.rmtree(model, ignore_errors=True)
                tar.extractall(model, filter="data")
                continue
            members = [each for each in tar if not each.name.startswith(".") and not each.name.endswith(".log")]
            tar.extractall(output, members=members, filter="data")
    own = output / host
    for path in own.iterdir() if own.is_dir() else ():
        if not (output / path.name).exists():
            path.rename(output / path.name)
    return dict(json.loads((output / "report.json").read_text(encoding="utf-8")))


def fetch(request: Mapping[str, Any], directory: Path, *, without: Mapping[str, Files]) -> dict[str, Files]:
    """Copy the channels of a request that lie on S3 to this machine.

    Raises:
        UserError: there is nothing at an address.
    """
    found: dict[str, Files] = {}
    for channel in request.get("InputDataConfig", ()):
        name, uri = channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]
        if name not in without:
            found[name] = _download(uri, directory / name)
    return found


def _download(uri: str, directory: Path) -> dict[str, Path]:
    bucket, prefix = split_uri(uri)
    client = sdk.boto_session(sdk.configured_region() or "us-east-1").client("s3")
    found: dict[str, Path] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for key in (each["Key"] for each in page.get("Contents", ()) if not each["Key"].endswith("/")):
            name = key.removeprefix(prefix).lstrip("/") or Path(key).name
            found[name] = directory / name
            found[name].parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(found[name]))
    if not found:
        raise UserError(f"{uri}: there is nothing to read")
    return found
