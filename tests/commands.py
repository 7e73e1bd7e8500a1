"""Commands of tabstep on small tables, run by forks.py: what the tests of whole commands share."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tabstep

Fault = tuple[str, int, str]
Tables = dict[str, Any]
PLACES = [Path(tabstep.__file__).resolve().parents[1], Path(__file__).resolve().parents[1]]
FORKS = Path(__file__).with_name("forks.py")
ROWS = {"train": 100, "val": 40, "test": 40}
SMALL = [
    "data.path=data",
    "data.batch_size=32",
    "data.checks=strict",
    "schema.label=label",
    "model.width=8",
    "model.depth=1",
    "model.num_bins=4",
    "model.embedding_dim=4",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.precision=32-true",
    "report=none",
    "paths.output_dir=out",
    "paths.cache_dir=cache",
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
        """The lines of standard error but for warnings."""
        return [line for line in self.err.splitlines() if not line.startswith("warning: ")]


class Commands:
    """Commands in the forks of one process."""

    def __init__(self, **environ: str) -> None:
        path = os.pathsep.join(map(str, PLACES))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "", "COLUMNS": "200", **environ}
        self._process = subprocess.Popen(
            [sys.executable, str(FORKS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(
        self, cwd: Path, program: str, argv: Sequence[str], fault: Fault | None = None, environ: Mapping[str, str] = {}
    ) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        named = None if fault is None else dict(zip(("point", "call", "do"), fault, strict=True))
        request = {"program": program, "argv": [*argv], "cwd": str(cwd), "fault": named, "environ": {**environ}}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def train(self, cwd: Path, *overrides: str, fault: Fault | None = None, **environ: str) -> Ended:
        return self.run(cwd, "train", [*SMALL, *overrides], fault, environ)

    def predict(
        self, cwd: Path, table: str, out: str = "p.parquet", *, fault: Fault | None = None, **environ: str
    ) -> Ended:
        return self.run(cwd, "tabstep", ["predict", "out/model", table, "-o", out], fault, environ)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


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
    return {split: table(rows, seed) for seed, (split, rows) in enumerate(ROWS.items())}


def write(root: Path, splits: Tables) -> None:
    """Write each split as ``<split>/<split>.parquet``, its bytes as they are, or several tables as several files."""
    for split, content in splits.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (root / split / f"{split}.parquet").write_bytes(content)
            continue
        parts = {f"{split}.parquet": content} if isinstance(content, pa.Table) else content
        for name, part in parts.items():
            pq.write_table(part, root / split / name, write_page_checksum=True)


def stored(content: pa.Table) -> bytearray:
    buffer = io.BytesIO()
    pq.write_table(content, buffer, write_page_checksum=True)
    return bytearray(buffer.getvalue())


def flipped(content: bytes | bytearray, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 4
    return bytes(changed)


def with_column(content: pa.Table, name: str, values: Any) -> pa.Table:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    if name in content.column_names:
        return content.set_column(content.column_names.index(name), name, array)
    return content.append_column(name, array)
