"""The history of a run as files: rewritten from the checkpointed history, so a resumed run leaves no gap and no double."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import Logger

from tabstep.checkpoints import write_durably
from tabstep.classifier import Classifier


def history_csv(history: list[dict[str, float]]) -> str:
    """Return one line an epoch below a line of names.

    >>> history_csv([{"epoch": 1, "val_loss": 0.5}])
    'epoch,val_loss\\n1,0.5\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(key for row in history for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


class HistoryFile(L.Callback):
    """Writes ``metrics.csv`` anew at the end of each epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Classifier)
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            progress = pl_module
            pl_module.epoch_listeners.append(
                lambda _row: write_durably(self.path, history_csv(progress.progress.history).encode())
            )


class EpochLogger(L.Callback):
    """Hands each epoch's row to the Trainer's loggers under the epoch as step: a repeated epoch overwrites itself."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Classifier)
        pl_module.epoch_listeners.append(lambda row: log_row(trainer.loggers, row))


def log_row(loggers: list[Logger], row: dict[str, float]) -> None:
    """Log one row to every logger and flush it: a kill must not take it along."""
    for logger in loggers:
        logger.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=int(row["epoch"]))
        logger.save()
