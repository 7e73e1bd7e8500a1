from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import lightning as L
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tabstep.log_lines import batch_line, epoch_line, parse_line
from tabstep.training.callbacks.console import ConsoleBar, ConsoleLines, build_console

BATCHES = 6


class Batch(NamedTuple):
    x_num: Tensor
    x_cat: Tensor
    y: Tensor


class WatchedLoss:
    """A loss that counts how often its value is asked for."""

    def __init__(self) -> None:
        self.reads = 0

    def __float__(self) -> float:
        self.reads += 1
        return 0.4312


class TinyModule(L.LightningModule):
    """The few attributes that a console reads; ``start`` batches of the first epoch are done already."""

    def __init__(self, *, start: int = 0, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.epoch_listeners: list[Callable[[dict[str, float]], None]] = []
        self.last_loss = WatchedLoss()
        self.start, self.fail_at = start, fail_at
        self.epoch_batches = BATCHES + start

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx == self.fail_at:
            raise ValueError("provoked")
        self.epoch_batch = self.start + batch_idx
        return self.weight.sum()

    def on_train_epoch_end(self) -> None:
        row = {"epoch": self.current_epoch + 1, "train_loss": 0.25, "train_accuracy": 0.9, "val_loss": math.nan}
        for listener in self.epoch_listeners:
            listener({**row, "rows_per_s": 1234.5, "eta_s": 61.0})


def fit(callback: L.Callback, module: L.LightningModule, epochs: int = 2) -> None:
    batches = [Batch(torch.zeros(4, 1), torch.zeros(4, 0), torch.zeros(4)) for _ in range(BATCHES)]
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*log_every_n_steps")


def lines_of(text: str) -> list[str]:
    assert "\r" not in text
    assert "\x1b" not in text
    assert text.endswith("\n")
    return text.splitlines()


def test_lines_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    module = TinyModule()
    fit(ConsoleLines(3), module)
    batch_lines = [batch_line(3, BATCHES, 0.4312), batch_line(6, BATCHES, 0.4312)]
    epoch = "Epoch: {} | Train Loss: 0.2500 | Accuracy: 90.00 | Val Loss: nan"
    epochs = [[*batch_lines, epoch.format(number), "Speed | 1234 rows/s | ETA 0:01:01"] for number in (1, 2)]
    assert lines_of(capsys.readouterr().out) == [*epochs[0], *epochs[1]]
    assert module.last_loss.reads == 4


def test_interval_of_zero_never_asks_for_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    module = TinyModule()
    fit(ConsoleLines(0), module, epochs=1)
    assert module.last_loss.reads == 0
    assert len(lines_of(capsys.readouterr().out)) == 2


def test_batches_are_counted_from_the_start_of_the_epoch_after_a_resume(capsys: pytest.CaptureFixture[str]) -> None:
    fit(ConsoleLines(4), TinyModule(start=2), epochs=1)
    read = [parse_line(line) for line in lines_of(capsys.readouterr().out)]
    assert [(row["batch"], row["batches"]) for row in read[:-2]] == [(4, 8), (8, 8)]


@pytest.mark.parametrize("callback", [ConsoleLines(1), ConsoleBar(1)])
def test_other_ranks_are_silent(callback: L.Callback, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(L.Trainer, "is_global_zero", False)
    module = TinyModule()
    fit(callback, module)
    assert module.epoch_listeners == []
    assert module.last_loss.reads == 0
    assert capsys.readouterr().out == ""


def test_each_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    class Writes(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    written: list[str] = []
    monkeypatch.setattr("sys.stdout", Writes())
    fit(ConsoleLines(2), TinyModule())
    assert len(written) == 10
    assert all(text.count("\n") == 1 and text.endswith("\n") for text in written)


@pytest.mark.parametrize("make", [lambda: ConsoleLines(0), lambda: ConsoleBar(0, terminal()[0])])
def test_a_second_fit_does_not_report_twice(make: Callable[[], L.Callback]) -> None:
    callback, module = make(), TinyModule()
    fit(callback, module, epochs=1)
    fit(callback, module, epochs=1)
    assert len(module.epoch_listeners) == 1


def terminal() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=120, color_system=None, legacy_windows=False), screen


def test_bar_shows_epoch_loss_speed_and_time_left_below_the_epoch_lines() -> None:
    console, screen = terminal()
    module = TinyModule()
    fit(ConsoleBar(3, console), module)
    text = screen.getvalue()
    for part in ("Epoch 1/2", "Epoch 2/2", "6/6", "Loss: 0.4312 | ", " rows/s | ETA 0:00:00"):
        assert part in text
    for epoch in (1, 2):
        assert f"Epoch: {epoch} | Train Loss: 0.2500 | Accuracy: 90.00 | Val Loss: nan" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert module.last_loss.reads == 4


def test_a_narrow_terminal_splits_no_number() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=40, color_system=None, legacy_windows=False)
    row = {"epoch": 12, "train_loss": 0.2458, "train_accuracy": 0.8952, "val_loss": 0.2511, "val_auroc": 0.9231}
    ConsoleBar(0, console).report_epoch(row)
    assert all(len(line) <= 40 for line in screen.getvalue().splitlines())
    assert " ".join(screen.getvalue().split()) == epoch_line(row)


def test_bar_gives_the_terminal_back_after_a_failure() -> None:
    console, screen = terminal()
    with pytest.raises(ValueError, match="provoked"):
        fit(ConsoleBar(1, console), TinyModule(fail_at=2))
    assert screen.getvalue().count("\x1b[?25h") == 1


def test_bar_counts_the_batches_before_a_resume() -> None:
    console, screen = terminal()
    fit(ConsoleBar(0, console), TinyModule(start=2), epochs=1)
    assert "8/8" in screen.getvalue()
    assert "Loss:" not in screen.getvalue().replace("Train Loss:", "").replace("Val Loss:", "")


@pytest.mark.parametrize(
    ("progress", "is_terminal", "expected"),
    [
        ("auto", True, ConsoleBar),
        ("auto", False, ConsoleLines),
        ("bar", False, ConsoleBar),
        ("lines", True, ConsoleLines),
    ],
)
def test_choice(progress, is_terminal: bool, expected: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    (callback,) = build_console(progress, 7)
    assert type(callback) is expected
    assert callback.log_interval == 7


def test_none_reports_nothing() -> None:
    assert build_console("none", 7) == []
