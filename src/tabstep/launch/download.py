"""The artifact of a job into the directory of a run: what a run on this machine would have left there."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tabstep.errors import UserError
from tabstep.exits import write_failure
from tabstep.launch.spec import split_uri
from tabstep.launch.transfer import get

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
        if not _fetch(client, bucket, key, output):
            raise UserError(f"{artifact}: is not there")
        _replace(_unpacked(output / _MODEL), model)
        show(f"model:       {model}")
        if _fetch(client, bucket, f"{key.removesuffix(_MODEL)}{_OUTPUT}", output):
            directory = _unpacked(output / _OUTPUT)
            for path in sorted((_first_host(directory) or directory).iterdir()):
                if not path.name.startswith(".") and path.suffix != ".log":  # these names are of the launching run
                    _replace(path, output / path.name)
            shutil.rmtree(directory)
            show(f"output:      {output}")
    except OSError as error:
        raise write_failure(error, "paths.output_dir: cannot be written") from error


def _fetch(client: Any, bucket: str, key: str, output: Path) -> bool:
    return get(client, bucket, key, output / key.rpartition("/")[2])


def _unpacked(archive: Path) -> Path:
    """Unpack an archive into a directory beside it, and delete the archive."""
    directory = archive.with_name(f".{archive.name}.unpacked")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive}: is damaged ({error}): fetch it again") from error
    archive.unlink()
    return directory


def _first_host(directory: Path) -> Path | None:
    """Return the directory of the first of several instances, which writes all results; None for a single one."""
    hosts = sorted(path for path in directory.glob("algo-*") if path.is_dir())
    return hosts[0] if hosts and not (directory / "report.json").exists() else None


def _replace(source: Path, target: Path) -> None:
    """Give ``source`` the name of ``target``; what had it is deleted once the new one has it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.old")
    if target.exists():
        os.replace(target, aside)
    shutil.move(source, target)
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)
