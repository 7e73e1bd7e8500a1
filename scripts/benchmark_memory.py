"""What `scripts/benchmark.py --memory DIR` and `--streamed DIR` measure: memory by rows, and the rate from disk.

Tables are generated in DIR and stay there, with their caches, for the next call. Linux only: /proc tells what is taken.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir

from tabstep.config.parse import parse
from tabstep.config.resolve import plain
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.run.build import assemble
from tabstep.run.prepare import prepare
from tabstep.run.prepared import Prepared
from tabstep.system.devices import resolve_machine
from tabstep.system.ranks import Ranks

ROOT = Path(__file__).resolve().parents[1]
PIECE = 200_000
PAIRS = 6
Row = tuple[str, ...]


def write_table(directory: Path, rows: int, numbers: int, categories: int) -> Path:
    """Write train of so many rows, and val and test of a twentieth, unless they are there."""
    for split, count in (("train", rows), ("val", rows // 20), ("test", rows // 20)):
        path = directory / split / "part.parquet"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        rng, writer = np.random.default_rng(count), None
        for start in range(0, count, PIECE):
            piece = _piece(rng, min(PIECE, count - start), numbers, categories)
            writer = writer or pq.ParquetWriter(path.with_suffix(".part"), piece.schema)
            writer.write_table(piece)
        assert writer is not None
        writer.close()
        path.with_suffix(".part").replace(path)
    return directory


def _piece(rng: np.random.Generator, rows: int, numbers: int, categories: int) -> pa.Table:
    x = rng.standard_normal((rows, numbers), dtype=np.float32)
    codes = rng.integers(0, 50, (rows, categories))
    chance = 1 / (1 + np.exp(1.25 - x[:, 0] - 0.5 * x[:, 1] - 0.05 * codes[:, 0]))
    columns = {f"n{place}": pa.array(column) for place, column in enumerate(x.T)}
    columns |= {f"c{place}": pa.array(column).cast(pa.string()) for place, column in enumerate(codes.T)}
    return pa.table({**columns, "y": pa.array((rng.random(rows) < chance).astype(np.int64))})


def peaks(directory: Path, sizes: Sequence[int], overrides: Sequence[str]) -> Iterator[Row]:
    """Measure what a whole run of one epoch takes, from parquet to the report, for tables of 8 columns."""
    for rows in sizes:
        data = write_table(directory / f"rows-{rows}", rows, numbers=5, categories=3)
        for held in ("true", "false"):
            started = time.perf_counter()
            command = [
                sys.executable,
                str(ROOT / "train.py"),
                f"data.path={data}",
                "schema.label=y",
                f"data.in_memory={held}",
                "trainer.max_epochs=1",
                f"paths.output_dir={data / f'run-{held}'}",
                f"paths.cache_dir={data / f'cache-{held}'}",
                "report=none",
                "resume=never",
                *overrides,
            ]
            with open(data / f"log-{held}.txt", "wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
                anonymous, everything = _watched(process)
            if process.returncode:
                raise SystemExit((data / f"log-{held}.txt").read_text(encoding="utf-8"))
            seconds = time.perf_counter() - started
            yield f"{rows:,}", held, f"{anonymous:,} MB", f"{everything:,} MB", f"{seconds:,.0f} s"


def _watched(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Return the most megabytes that a process had of its own, and with pages of files, until it ended."""
    most = [0, 0]
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        for place, name in enumerate(("RssAnon", "VmRSS")):
            found = re.search(rf"{name}:\s+(\d+) kB", status)
            most[place] = max(most[place], int(found[1]) // 1024 if found else 0)
        time.sleep(0.05)
    return most[0], most[1]


class Timed(L.Callback):
    """The seconds of an epoch of training, up to validation."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = time.perf_counter() - self._started


def rates(directory: Path, overrides: Sequence[str], *, rows: int = 500_000) -> Iterator[Row]:
    """Measure epochs from disk beside epochs from memory, in turns: 30 numbers and 10 categories, ten windows."""
    data = write_table(directory / f"wide-{rows}", rows, numbers=30, categories=10)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        both = [
            _settings(data, [f"data.in_memory={held}", f"data.shuffle_window={rows // 10}", *overrides])
            for held in ("true", "false")
        ]
    prepared = [_prepared(settings) for settings in both]
    taken = []
    for number in range(PAIRS + 1):
        for array in prepared[0].tables["train"].arrays.present:  # whatever was dropped from the page cache meanwhile
            array.max(initial=0)
        turns = (0, 1) if number % 2 else (1, 0)  # what other programs do must favour neither
        found = {turn: rows / _epoch(both[turn], prepared[turn]) for turn in turns}
        taken.append([found[0], found[1]])
    held, stored = (statistics.median(column) for column in zip(*taken[1:], strict=True))
    ratios = sorted(stored / held for held, stored in taken[1:])
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    yield f"{both[0].data.batch_size:,}", f"{held:,.0f}", f"{stored:,.0f}", spread, f"{PAIRS} pairs"


def _settings(data: Path, overrides: Sequence[str]) -> Settings:
    fixed = [
        f"data.path={data}",
        "schema.label=y",
        "data.checks=off",
        "trainer.max_epochs=1",
        "trainer.log_interval=0",
        "logger=none",
        "resume=never",
        f"paths.output_dir={data / 'run'}",
        f"paths.cache_dir={data / 'cache'}",
    ]
    return parse(plain(compose("train", overrides=[*fixed, *overrides])))


def _prepared(settings: Settings) -> Prepared:
    cache_dir = Path(settings.paths.cache_dir)
    return prepare(settings.data, settings.schema, seed=settings.seed, cache_dir=cache_dir, show=lambda _: None)


def _epoch(settings: Settings, prepared: Prepared) -> float:
    """Return the seconds in which one epoch was trained."""
    timed = Timed()
    built = assemble(settings, prepared, resolve_machine("cpu", 1, "32-true"), Ranks())
    built.trainer.callbacks.insert(0, timed)
    built.trainer.fit(built.classifier, datamodule=built.data)
    return timed.seconds
