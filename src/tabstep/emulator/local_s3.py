"""S3 as a directory of this machine: bucket and key are the path of a file."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Files = Mapping[str, Path]
_PACKED = {"model.tar.gz": "model", "output.tar.gz": "output/data"}  # what of a container each archive is made of


def file_of(directory: Path, uri: str) -> Path:
    """Return the file that stands for an address, ready to be written."""
    file = directory / "s3" / uri.removeprefix("s3://")
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
        files = {path.name: path for base in reversed(bases) for path in sorted((base / below).iterdir())}
        if files:
            file = file_of(directory, f"{target}/{name}")
            with tarfile.open(file, mode="w:gz", compresslevel=1) as tar:
                for inside, path in sorted(files.items()):
                    tar.add(path, arcname=inside)
            places[f"{target}/{name}"] = file
    return places
