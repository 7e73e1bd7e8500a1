"""Archives of a job, unpacked to where a run on this machine has its model and its results."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from tabstep.errors import UserError
from tabstep.run_files import REPORT


def place_model(archive: Path, output: Path, model: Path, show: Callable[[str], None]) -> None:
    """Unpack a job's ``model.tar.gz`` to where a run on this machine has its model."""
    _replace(_unpacked(archive, output), model)
    show(f"model:       {model}")


def place_results(archive: Path, output: Path, show: Callable[[str], None]) -> None:
    """Unpack a job's ``output.tar.gz`` to where a run on this machine has its results."""
    directory = _unpacked(archive, output)
    for path in sorted(_first_host(directory).iterdir()):
        if not path.name.startswith(".") and path.suffix != ".log":  # these names are of the launching run
            _replace(path, output / path.name)
    shutil.rmtree(directory)
    show(f"output:      {output}")


def objective(output: Path, name: str) -> float | None:
    """Return a score of the report among a job's results; None where there is none."""
    report = output / REPORT
    if not report.is_file():
        return None
    value = json.loads(report.read_text(encoding="utf-8")).get(name)
    return None if value is None else float(value)


def _unpacked(archive: Path, output: Path) -> Path:
    directory = output / f".{archive.name}.unpacked"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        with tarfile.open(archive) as tar:
            extract(tar, directory)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive}: is damaged ({error}): fetch it again") from error
    return directory


def extract(tar: tarfile.TarFile, directory: Path) -> None:
    """Unpack below a directory and nowhere else.

    Raises:
        tarfile.TarError: a member lies elsewhere, or is of a kind that no result is.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(directory, filter="data")
        return
    for member in tar:  # Python 3.11 has filters from 3.11.4 on
        place = (directory / member.name).resolve()
        if not place.is_relative_to(directory.resolve()) or not (member.isfile() or member.isdir()):
            raise tarfile.ExtractError(f"{member.name!r} is no file below it")
        tar.extract(member, directory)


def _first_host(directory: Path) -> Path:
    """Return where the results are: the first of several instances has a directory of its own, and writes them all."""
    places = [directory, *sorted(path for path in directory.iterdir() if path.is_dir())]
    return next((place for place in places if (place / REPORT).exists()), directory)


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
