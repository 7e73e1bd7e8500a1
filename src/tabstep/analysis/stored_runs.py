"""What runs left behind, read back: configuration, scores and history of any run directory. No torch."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.run_files import CONFIG, ENCODER, ENSEMBLE, HISTORY, HYDRA, MANIFEST, MEMBERS, METRICS, MODEL, REPORT


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """One run: ``report`` is empty while it is not finished, ``history`` has one row an epoch.

    ``model`` is where its model directory is, or would be.
    """

    path: Path
    model: Path
    config: dict[str, Any]
    report: dict[str, Any]
    history: tuple[dict[str, float], ...]


def read_run(location: str | os.PathLike[str]) -> StoredRun:
    """Read a run's directory, finished or not, or a model directory alone.

    Raises:
        UserError: it is neither, or a file in it cannot be read.
    """
    path = Path(location)
    if not path.is_dir():
        what = "is a file" if path.exists() else "no such directory"
        raise UserError(f"{path}: {what}: name the directory of a run")
    # a model directory that was copied elsewhere has the scores and the configuration too
    alone = (path / MANIFEST).is_file()
    model = path if alone else path / MODEL
    report = model / METRICS if alone else path / REPORT
    configs = [model / CONFIG, path / HYDRA / "config.yaml"]
    config = next((file for file in configs if file.is_file()), None)
    if config is None and not report.is_file():
        raise UserError(f"{path}: is not the directory of a run: it has no {REPORT}, no {MODEL}/ and no {HYDRA}/")
    return StoredRun(
        path=path,
        model=model,
        config={} if config is None else _mapping(config),
        report=_mapping(report) if report.is_file() else {},
        history=_history(path / HISTORY),
    )


def find_runs(directory: str | os.PathLike[str]) -> list[Path]:
    """Return the directories of finished runs at or below a directory, in the order of their numbers.

    What lies inside of a run, such as an earlier one that was set aside, is not searched.
    """
    if not Path(directory).is_dir():
        raise UserError(f"{directory}: no such directory: name the directory of a sweep")
    found = []
    for folder, below, files in os.walk(directory):
        if REPORT in files:
            found.append(Path(folder))
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    return sorted(found, key=lambda path: natural(str(path)))


def stored_encoder(model: Path) -> Encoder:
    """Return the encoder of a model directory; of an average, that of its first member.

    Raises:
        OSError, ValueError: it is not there, or not what a run writes.
    """
    place = model / MEMBERS / "0" if (model / ENSEMBLE).exists() else model
    return Encoder.from_json((place / ENCODER).read_text(encoding="utf-8"))


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in a text by value.

    >>> sorted(["run-10", "run-9"], key=natural)
    ['run-9', 'run-10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the part of each path that tells it from the others.

    >>> short_names([Path("logs/a/0"), Path("logs/a/12")])
    ['0', '12']
    """
    full = [os.path.abspath(path) for path in paths]
    top = os.path.commonpath(full) if len(set(full)) > 1 else os.path.dirname(full[0])
    return [os.path.basename(name) if name == top else os.path.relpath(name, top) for name in full]


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as dotted keys; a list is a value.

    >>> flat({"model": {"name": "mlp", "width": 8}, "tags": [], "launch": {}})
    {'model.name': 'mlp', 'model.width': 8, 'tags': [], 'launch': {}}
    """
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    joined: dict[str, Any] = {}
    for key, value in config.items():
        joined |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return joined


def _mapping(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML file that holds a mapping."""
    read = json.loads if path.suffix == ".json" else yaml.safe_load
    try:
        data = read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds no keys: it is not what a run writes")
    return data


def _history(path: Path) -> tuple[dict[str, float], ...]:
    if not path.is_file():
        return ()
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return tuple(_numbers(row.items()) for row in csv.DictReader(file))
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: is not the history of a run: {error}") from error


def _numbers(cells: Iterable[tuple[str, str]]) -> dict[str, float]:
    return {name: float(text) for name, text in cells if text}
