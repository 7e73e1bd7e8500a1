"""``tabstep.train``: the run of the command line, called from Python, on files or on a table in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabstep.api.finished_run import Run
from tabstep.config.grammar import Plain, written
from tabstep.config.local_tables import missing_tables
from tabstep.config.parse import parse
from tabstep.config.secrets import redacted
from tabstep.entry import compose_run
from tabstep.errors import ProblemsError, UserError
from tabstep.tables.frames import is_location, keep_table, to_table
from tabstep.tables.splits import holds_splits

Overrides = Mapping[str, Plain] | Sequence[str]
_COMPOSING = threading.Lock()
"""Hydra composes by way of objects that a process has one of."""


def train(
    data: Any = None,
    *,
    label: str | Sequence[str] | None = None,
    val: Any = None,
    test: Any = None,
    overrides: Overrides = (),
    directory: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Run:
    """Train, test and save a classifier, as ``tabstep train`` does, and return the finished run.

    A table in memory is written as parquet to the cache, and takes the same way as a file.

    Args:
        data: A DataFrame (pandas, polars, or anything else with the Arrow PyCapsule interface), an Arrow table, a dict
            of arrays by column, the path of files, or of a directory with ``train``, ``val`` and ``test`` in it. None
            is the built-in table.
        label: The column to predict; several 0/1 columns make a multilabel task. None leaves it to the column's name.
        val, test: As ``data``. Without ``val``, a stratified share of the rows is held out.
        overrides: Keys and options as on the command line: ``{"model": "resnet", "optimizer.lr": 3e-4}``, or
            ``["model=resnet", "optimizer.lr=3e-4"]``.
        directory: Where the run is kept; a run that was interrupted there goes on. None is a new one in logs/.
        quiet: Whether nothing is printed but warnings of what may make the model worse than it could be.

    Raises:
        UserError: the input or a setting is wrong.
        StoppedError: a signal came; the state is saved.
    """
    schema = {} if label is None else {"label": label if isinstance(label, str) else list(label)}
    return train_tables(
        {"train": data, "val": val, "test": test}, schema=schema, overrides=overrides, directory=directory, quiet=quiet
    )


def train_tables(
    tables: Mapping[str, Any],
    *,
    schema: Mapping[str, Any],
    overrides: Overrides,
    directory: str | os.PathLike[str] | None,
    quiet: bool,
) -> Run:
    """Train on the tables of the splits; ``schema`` holds keys below ``schema`` as plain values."""
    with _COMPOSING:
        config, settings = compose_run(override_texts(overrides))
    if settings.launch.name != "local":
        raise UserError(f"launch: Python trains on this machine: `tabstep train launch={settings.launch.name}` does it")
    config["schema"] |= schema
    config["data"] |= _locations(tables, Path(settings.paths.cache_dir))
    if quiet:
        config["callbacks"] |= {"progress": "none"}
    named = Path(settings.paths.output_dir).absolute()
    output = _unused(named) if directory is None else Path(directory).absolute()
    config["paths"] |= {"output_dir": str(output)}
    # once more: the schema and the tables were not among the overrides
    settings = parse(config)
    if problems := missing_tables(settings.data):
        raise ProblemsError(problems)
    from tabstep.run.run import run  # torch

    run(settings, redacted(config, os.environ))
    return Run.read(output)


def override_texts(overrides: Overrides) -> list[str]:
    """Return overrides as they stand on the command line.

    >>> override_texts({"model": "resnet", "optimizer.lr": 3e-4, "schema.drop": ["a", "b"]})
    ["model='resnet'", 'optimizer.lr=0.0003', "schema.drop=['a','b']"]
    >>> override_texts({"schema.parse": {"day": "%d.%m.%Y"}})
    ["++schema.parse={day:'%d.%m.%Y'}"]
    """
    if not isinstance(overrides, Mapping):
        return list(overrides)
    # the names in a mapping are new ones, which the command line wants to be told
    signs = {key: "++" for key, value in overrides.items() if isinstance(value, Mapping) and key[:1] not in "+~"}
    return [f"{signs.get(key, '')}{key}={_written(value)}" for key, value in overrides.items()]


def _written(value: Any) -> str:
    """Return a value as the command line has it; a mapping too, whose keys are plain words there."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_written(each)}' for key, each in value.items())}}}"
    return written(value)


def _locations(tables: Mapping[str, Any], cache_dir: Path) -> dict[str, str | None]:
    """Return the keys below ``data`` for what was given, none where nothing was."""
    found: dict[str, str | None] = {}
    for split, data in tables.items():
        if data is None:
            continue
        if not is_location(data):
            rows = to_table(data, where=split)
            if not rows.num_rows:
                raise UserError(f"{split}: holds no rows: give it at least one")
            found[split] = str(keep_table(rows, cache_dir))
        elif split == "train" and holds_splits(os.fspath(data)):
            found |= {"path": os.fspath(data), "train": None}
        else:
            found[split] = os.fspath(data)
    if "train" in found:
        found.setdefault("path", None)  # one that an override names
    return found


def _unused(directory: Path) -> Path:
    """Return a directory that is not there yet: two runs in one second are two runs."""
    number, path = 1, directory
    while path.exists():
        number += 1
        path = directory.with_name(f"{directory.name}-{number}")
    return path
