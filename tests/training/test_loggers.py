from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tabstep.training import loggers as module
from tabstep.training.loggers import log_row, write_history

HISTORY = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25, "val_loss": 0.3}]


class Recorder:
    """Stands for a logger of the Trainer."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.heard.append((step, metrics))

    def save(self) -> None:
        self.heard.append("saved")


def test_the_whole_history_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "metrics.csv"
    write_history(file, HISTORY[:1])
    write_history(file, HISTORY)
    assert file.read_text() == "epoch,train_loss,val_loss\n1,0.5,\n2,0.25,0.3\n"


def test_a_full_disk_is_a_warning_and_another_fault_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "write_durably", full)
    number = errno.ENOSPC
    with pytest.warns(UserWarning, match=r"metrics\.csv: the disk is full"):
        write_history(tmp_path / "metrics.csv", HISTORY)
    number = errno.EACCES
    with pytest.raises(PermissionError):
        write_history(tmp_path / "metrics.csv", HISTORY)


def test_every_logger_hears_an_epoch_as_its_step() -> None:
    loggers: list[Any] = [Recorder(), Recorder()]
    log_row(loggers, HISTORY[1])
    for logger in loggers:
        assert logger.heard == [(2, {"train_loss": 0.25, "val_loss": 0.3}), "saved"]
