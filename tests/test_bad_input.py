"""Bad input through the public commands: each case is handled, or refused with one clear line and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tabstep

SOURCE = str(Path(tabstep.__file__).resolve().parent.parent)
FORKS = Path(__file__).with_name("forks.py")
SMALL = [
    "data.batch_size=32",
    "model.width=8",
    "model.depth=1",
    "model.num_bins=4",
    "model.embedding_dim=4",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "data.checks=strict",
]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    peak_mb: int

    @property
    def said(self) -> list[str]:
        """The lines of standard error without those of Python's warnings."""
        return [line for line in self.err.splitlines() if "Warning: " not in line and not line.startswith("  ")]


class Commands:
    """Commands in the forks of one process."""

    def __init__(self, cache: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": SOURCE, "XDG_CACHE_HOME": str(cache), "COLUMNS": "200"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::FutureWarning", str(FORKS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(
        self, program: str, argv: Sequence[str], cwd: Path, fault: tuple[str, int, str] | None = None
    ) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        named = None if fault is None else dict(zip(("point", "call", "do"), fault, strict=True))
        request = {"program": program, "argv": list(argv), "cwd": str(cwd), "fault": named}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    started = Commands(tmp_path_factory.mktemp("cache"))
    yield started
    started.close()


Tables = dict[str, pa.Table]


def table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 12, rows)
    city = rng.choice(["Bonn", "Köln", "Ulm"], rows)
    score = (age - 40) / 12 + (city == "Bonn") + rng.normal(0, 0.5, rows)
    return pa.table(
        {
            "row_id": [f"{seed}-{index}" for index in range(rows)],
            "age": age,
            "income": rng.lognormal(10, 1, rows),
            "city": city.tolist(),
            "label": np.where(score > 0.5, "yes", "no").tolist(),
        }
    )


def tables() -> Tables:
    return {"train": table(100, 0), "val": table(40, 1), "test": table(40, 2)}


def write(root: Path, splits: Mapping[str, pa.Table | bytes | Sequence[pa.Table]]) -> None:
    """Write each split as ``<split>/<split>.parquet``, its bytes as they are, or several tables as several files."""
    for split, content in splits.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        path = root / split / f"{split}.parquet"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, pa.Table):
            pq.write_table(content, path, write_page_checksum=True)
        else:
            for index, part in enumerate(content):
                pq.write_table(part, root / split / f"part-{index}.parquet", write_page_checksum=True)


def put(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Return ``table`` with a column replaced or added at the end."""
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, array)
    return table.append_column(name, array)
