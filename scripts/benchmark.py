"""Rows per second of a training run beside those of a bare PyTorch loop: what Lightning and data loading cost.

    python scripts/benchmark.py [overrides]        for example: data.batch_size=4096 model=resnet
    python scripts/benchmark.py --memory DIR [ROWS ...] [overrides]    what a run takes, of 3 and 10 million rows
    python scripts/benchmark.py --streamed DIR [overrides]             the rate of a table that stays on disk

The bare loop takes batches that lie ready in memory through the same model, loss, clipping and optimizer in the same
precision. The two alternate epoch by epoch in one process, so that both see the same machine, and each pair gives one
ratio. A warm-up epoch of both is not counted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from tabstep.config.parse import parse
from tabstep.config.resolve import plain
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.run.build import Assembly, assemble
from tabstep.run.prepare import prepare
from tabstep.run.sizes import batch_size_of
from tabstep.system.devices import resolve_machine
from tabstep.system.ranks import Ranks
from tabstep.training.datamodule import Batch, as_tensors

BATCH_SIZES = (1024, 8192)
EPOCHS = 9


def bare_epoch(built: Assembly, batches: list[Batch], gradient_clip_val: float | None) -> Callable[[], float]:
    """Return a function that trains one epoch in a plain loop and returns its seconds."""
    model, loss = built.architecture.build(), built.classifier.loss
    device = built.trainer.strategy.root_device
    model.to(device)
    optimizer = built.classifier._make_optimizer(model)
    scaled = built.trainer.precision == "16-mixed"
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)

    def epoch() -> float:
        _wait(device)
        started = time.perf_counter()
        for batch in batches:
            with torch.autocast(device.type, torch.float16, enabled=scaled):
                losses, weights = loss(model(batch.x_num, batch.x_cat), batch.y)
                value = (losses * weights).sum() / weights.sum()
            optimizer.zero_grad()
            scaler.scale(value).backward()
            scaler.unscale_(optimizer)
            if gradient_clip_val is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clip_val)
            scaler.step(optimizer)
            scaler.update()
        _wait(device)
        return time.perf_counter() - started

    return epoch


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Alternate(L.Callback):
    """Times each epoch of the run up to validation, and an epoch of the bare loop before it."""

    def __init__(self, bare: Callable[[], float]) -> None:
        self.bare = bare
        self.pairs: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bare_seconds = self.bare()
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _wait(pl_module.device)
        self.pairs.append((time.perf_counter() - self._started, self._bare_seconds))


def measure(settings: Settings) -> list[tuple[float, float]]:
    """Return (seconds of the run, seconds of the bare loop) an epoch."""
    trainer = settings.trainer
    prepared = prepare(
        settings.data,
        settings.schema,
        seed=settings.seed,
        cache_dir=Path(settings.paths.cache_dir),
        show=lambda _: None,
    )
    rows = batch_size_of(settings, prepared)
    machine = resolve_machine(trainer.accelerator, trainer.devices, trainer.precision, rows=rows)
    built = assemble(settings, prepared, machine, Ranks())
    tensors = as_tensors(prepared.tables["train"].arrays)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(tensors.y)))
    device = built.trainer.strategy.root_device
    size = settings.data.batch_size
    batches = [
        Batch(*(tensor[order[start : start + size]].to(device) for tensor in tensors))
        for start in range(0, len(order), size)
    ]
    alternate = Alternate(bare_epoch(built, batches, settings.trainer.gradient_clip_val))
    built.trainer.callbacks.insert(0, alternate)
    built.trainer.fit(built.classifier, datamodule=built.data)
    return alternate.pairs[1:]


def main(overrides: list[str]) -> None:
    """Measure each batch size (or the one given) and print a table."""
    sizes = [None] if any(text.startswith("data.batch_size=") for text in overrides) else list(BATCH_SIZES)
    table = Table(
        "batch", "batches", "rows/s, run", "rows/s, bare loop", "time run / bare", "of", title="training speed"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory, initialize_config_dir(str(config_dir()), version_base="1.3"):
            fixed = [
                "data.checks=off",
                "data.builtin_rows=400000",
                f"trainer.max_epochs={EPOCHS}",
                "trainer.log_interval=0",
                "callbacks=no_early_stopping",
                "logger=none",
                f"paths.output_dir={directory}",
            ]
            chosen = [] if size is None else [f"data.batch_size={size}"]
            settings = parse(plain(compose("train", overrides=[*fixed, *chosen, *overrides])))
            pairs = measure(settings)
        rows = settings.data.batch_size
        ratios = sorted(run / bare for run, bare in pairs)
        seconds = [statistics.median(column) for column in zip(*pairs, strict=True)]
        count = 256_000 // rows
        speeds = [f"{count * rows / value:,.0f}" for value in seconds]
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        table.add_row(f"{rows:,}", str(count), *speeds, spread, f"{len(ratios)} pairs")
    Console(width=120).print(table)


def main_memory(what: str, directory: str, words: list[str]) -> None:
    """Measure memory by rows, or the rate from disk, with generated tables in ``directory``, and print a table."""
    from benchmark_memory import peaks, rates

    sizes = [int(word) for word in words if word.isdigit()] or [3_000_000, 10_000_000]
    overrides = [word for word in words if not word.isdigit()]
    if what == "--memory":
        table = Table("rows x 8 columns", "data.in_memory", "peak of its own", "with pages of files", "time")
        rows = peaks(Path(directory), sizes, overrides)
    else:
        table = Table("batch", "rows/s, memory", "rows/s, disk", "rate disk / memory", "of")
        rows = rates(Path(directory), ["data.batch_size=1024", *overrides])
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] in (["--memory"], ["--streamed"]):
        main_memory(sys.argv[1], sys.argv[2], sys.argv[3:])
    else:
        main(sys.argv[1:])
