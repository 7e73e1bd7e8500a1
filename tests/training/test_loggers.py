from __future__ import annotations

import csv
import errno
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.run.run import run
from tabstep.training import loggers as module
from tabstep.training.loggers import is_history, log_row, write_history

CSV = "lightning.pytorch.loggers:CSVLogger"
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


def logged(tiny_data: Path, output: Path, **options: Any) -> None:
    """Train two epochs with Lightning's own logger of CSV files."""
    small = ["model.width=4", "model.depth=1", "model.num_bins=0", "trainer=cpu", "trainer.max_epochs=2", "report=none"]
    places = [f"data.path={tiny_data}", f"paths.cache_dir={output.parent / 'cache'}", "callbacks.progress=none"]
    config = composed([*small, *places, "schema.label=label", "schema.id=row_id"], [config_dir()])
    config["logger"]["extra"] = [{"name": CSV, "options": {"save_dir": str(output), "name": "own", **options}}]
    config["paths"]["output_dir"] = str(output)
    run(parse(config), config)


def test_a_logger_of_lightning_hears_parameters_and_epochs(tiny_data: Path, tmp_path: Path) -> None:
    logged(tiny_data, tmp_path / "run", version="")
    with open(tmp_path / "run" / "metrics.csv") as ours, open(tmp_path / "run" / "own" / "metrics.csv") as theirs:
        expected, found = list(csv.DictReader(ours)), list(csv.DictReader(theirs))
    assert [row["step"] for row in found] == ["1", "2"]
    assert [float(row["val_auroc"]) for row in found] == [float(row["val_auroc"]) for row in expected]
    parameters = yaml.safe_load((tmp_path / "run" / "own" / "hparams.yaml").read_text())
    assert (parameters["model"]["width"], parameters["trainer"]["max_epochs"]) == (4, 2)


def test_a_mistake_in_a_logger_is_one_line(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^logger\.extra\[0\]\.verison: .* no such key .*: did you mean 'version'\?$"):
        logged(tiny_data, tmp_path / "run", verison="")


def test_a_history_is_known_to_the_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert not is_history(path, HISTORY)
    write_history(path, HISTORY)
    assert is_history(path, HISTORY)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_history(path, HISTORY)
