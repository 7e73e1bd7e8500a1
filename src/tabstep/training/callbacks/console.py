"""What a person sees of a run: a progress bar on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from torch import Tensor

from tabstep.log_lines import batch_line, duration, epoch_line, extra_line, number, speed_line
from tabstep.system.terminal import Terminal

REFRESH_SECONDS = 0.1


class Reporting(Protocol):
    """What a console reads of the module that is trained.

    ``last_loss`` is a detached scalar whose value is asked for at the log interval alone, since on a GPU that waits
    for the device. ``epoch_batch`` counts from 0 within the epoch, batches before a resume included.
    """

    epoch_listeners: list[Callable[[dict[str, float]], None]]
    last_loss: Tensor
    epoch_batch: int
    epoch_batches: int


def build_console(
    progress: Literal["auto", "bar", "lines", "none"], log_interval: int
) -> list[ConsoleBar | ConsoleLines]:
    """Return the callback that reports a run; ``auto`` is a bar where standard output is a terminal, ``none`` is none.

    ``log_interval`` is the number of batches between two looks at the loss; 0 looks at it once an epoch only.
    """
    if progress == "none":
        return []
    if progress == "bar" or (progress == "auto" and sys.stdout.isatty()):
        return [ConsoleBar(log_interval)]
    return [ConsoleLines(log_interval)]


class ConsoleLines(L.Callback):
    """One newline-terminated line an epoch and one every ``log_interval`` batches, written by rank zero at once."""

    def __init__(self, log_interval: int) -> None:
        self.log_interval = log_interval

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        listeners = cast(Reporting, pl_module).epoch_listeners
        if trainer.is_global_zero and self.report_epoch not in listeners:
            listeners.append(self.report_epoch)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = cast(Reporting, pl_module)
        done = module.epoch_batch + 1
        if trainer.is_global_zero and self.log_interval and done % self.log_interval == 0:
            _write(batch_line(done, module.epoch_batches, float(module.last_loss)))

    def report_epoch(self, row: Mapping[str, float]) -> None:
        """Write the lines of a row of the history."""
        _write(epoch_line(row))
        if line := extra_line(row):
            _write(line)
        _write(speed_line(row["rows_per_s"], row["eta_s"]))


class ConsoleBar(L.Callback):
    """A bar of the running epoch with its loss, the speed and the time left, below the lines of the epochs before."""

    def __init__(self, log_interval: int, console: Console | None = None) -> None:
        self.log_interval = log_interval
        self._console = console or Terminal()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        listeners = cast(Reporting, pl_module).epoch_listeners
        if trainer.is_global_zero and self.report_epoch not in listeners:
            listeners.append(self.report_epoch)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batches, self._rows, self._loss = 0, 0, ""
        self._started = self._refreshed = time.monotonic()
        if not trainer.is_global_zero:
            return
        columns = (TextColumn("Epoch {task.description}"), BarColumn(), MofNCompleteColumn())
        numbers = TextColumn("{task.fields[text]}")
        self._progress = Progress(*columns, numbers, console=self._console, transient=True, refresh_per_second=4)
        self._progress.start()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._progress is None:
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        limit = "" if math.isnan(_max_epochs(trainer)) else f"/{trainer.max_epochs}"
        epoch = f"{trainer.current_epoch + 1}{limit}"
        self._task = self._progress.add_task(epoch, total=None, text="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._progress is None or self._task is None:
            return
        module = cast(Reporting, pl_module)
        done = module.epoch_batch + 1
        self._batches += 1
        self._rows += len(batch.y) * trainer.world_size
        if self.log_interval and (done - 1) % self.log_interval == 0:  # the first one too: a bar has no other line
            self._loss = f"Loss: {number(float(module.last_loss))} | "
        now = time.monotonic()
        if now - self._refreshed < REFRESH_SECONDS and done < module.epoch_batches:
            return
        self._refreshed = now
        seconds = max(now - self._started, 1e-9)
        left = (_max_epochs(trainer) - trainer.current_epoch) * module.epoch_batches - done
        text = f"{self._loss}{self._rows / seconds:.0f} rows/s | ETA {duration(left * seconds / self._batches)}"
        self._progress.update(self._task, completed=done, total=module.epoch_batches, text=text)

    def report_epoch(self, row: Mapping[str, float]) -> None:
        """Print the line of a row of the history above the bar."""
        self._console.print(epoch_line(row), markup=False, highlight=False)  # a narrow terminal breaks it at spaces
        if line := extra_line(row):
            self._console.print(line, markup=False, highlight=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        """Give the terminal back; a bar that is left running would hide the cursor for good."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


def _max_epochs(trainer: L.Trainer) -> float:
    """Return the limit of epochs; nan where there is none, which Lightning writes as -1."""
    limit = trainer.max_epochs
    return math.nan if limit is None or limit < 0 else limit


def _write(line: str) -> None:
    # One write a line: processes that share an output must not mix theirs into it.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
