"""The history of a run outside of its checkpoints: a CSV file, and the Trainer's loggers."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import FULL_DISK
from tabstep.tracking.tracker import Tracker

Row = Mapping[str, float]


class TrackerLogger(Logger):
    """What callbacks log, for a tracker; epochs and results reach it without the Trainer.

    Args:
        tracker: None on ranks other than 0, where callbacks still look for a logger.
    """

    def __init__(self, name: str, tracker: Tracker | None) -> None:
        super().__init__()
        self._name, self._tracker = name, tracker

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._tracker is not None:
            self._tracker.log(metrics, step or 0)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass  # the tracker has the settings


def write_history(path: Path, history: Sequence[Row]) -> None:
    """Write one line an epoch below a line of names, the whole file anew: a resumed run leaves no gap and no double."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_durably(path, _lines(history))
    except OSError as error:  # the whole file is written again after the next epoch
        if error.errno not in FULL_DISK:
            raise
        warnings.warn(f"{path}: the disk is full: this epoch is missing there until the next one", stacklevel=2)


def is_history(path: Path, history: Sequence[Row]) -> bool:
    """Whether ``path`` holds what ``write_history`` writes."""
    return path.is_file() and path.read_bytes() == _lines(history)


def _lines(history: Sequence[Row]) -> bytes:
    text = io.StringIO()
    names = list(dict.fromkeys(key for row in history for key in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()


def log_row(loggers: Iterable[Logger], row: Row) -> None:
    """Log one row to every logger under its epoch as step, so that a repeated epoch overwrites itself, and flush it."""
    for logger in loggers:
        logger.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=int(row["epoch"]))
        logger.save()


def log_settings(loggers: Iterable[Logger], settings: Mapping[str, Any]) -> None:
    """Give every logger the settings as parameters of its run; TensorBoard would make a page of its own of them."""
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings))
