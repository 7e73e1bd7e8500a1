from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.api.train import train
from tabstep.run import in_memory
from tabstep.run.in_memory import held_in_memory
from tabstep.tables.builtin import generate
from tabstep.training import window_stream

GIB = 2**30


@pytest.mark.parametrize(
    ("wanted", "size", "held", "line"),
    [
        ("auto", GIB // 2, True, None),
        ("auto", 2 * GIB, True, "data.in_memory=auto: 2.00 GiB of encoded rows lie in memory, 8.00 GiB"),
        ("auto", 4 * GIB, True, "data.in_memory=auto: 4.00 GiB of encoded rows lie in memory, 8.00 GiB"),
        ("auto", 4 * GIB + 1, False, "data.in_memory=auto: 4.00 GiB of encoded rows stay on disk"),
        (True, 40 * GIB, True, None),
        (False, GIB, False, "data.in_memory=false: 1.00 GiB of encoded rows stay on disk"),
    ],
)
def test_half_of_the_free_memory_may_hold_rows_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, size: int, held: bool, line: str | None
) -> None:
    monkeypatch.setattr(in_memory, "available_memory", lambda: 8 * GIB)
    said: list[str] = []
    assert held_in_memory(wanted, size, said.append) is held
    assert (len(said), all(text.startswith(line or "") for text in said)) == (0 if line is None else 1, True)


OVERRIDES = {
    "schema.id": "row_id",
    "data.shuffle_window": 512,
    "data.batch_size": 100,
    "data.eval_batch_size": 300,
    "trainer.max_epochs": 2,
    "trainer.precision": "32-true",
    "model.width": 8,
    "report": "none",
    "decision": "f1",
    "data.checks": "off",
    "baselines": None,
    "loss.class_weights": "balanced",
}


def trained(directory: Path, table: pa.Table, **changes: Any) -> tuple[bytes, list[Any], dict[str, Any]]:
    overrides = {**OVERRIDES, **changes, "paths.output_dir": str(directory), "paths.cache_dir": f"{directory}-cache"}
    result = train(table, label="churned", overrides=overrides, quiet=True)
    predictions = [pq.read_table(path) for path in sorted((directory / "predictions").glob("*.parquet"))]
    scores = {key: value for key, value in result.report.items() if key not in ("seconds",)}
    return (directory / "model" / "model.safetensors").read_bytes(), predictions, scores


def test_weights_predictions_and_scores_are_the_same_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_stream, "BLOCK", 64)
    table, _ = generate(rows=3_000, seed=0)
    held = trained(tmp_path / "held", table, **{"data.in_memory": True})
    streams: list[int] = []
    fill = window_stream.WindowStream._fill

    def counted(self: Any, buffer: Any, spans: Any) -> Any:
        streams.append(1)
        return fill(self, buffer, spans)

    monkeypatch.setattr(window_stream.WindowStream, "_fill", counted)
    stored = trained(tmp_path / "stored", table, **{"data.in_memory": False})
    assert streams, "the key has an effect"
    assert stored == held
    streams.clear()
    monkeypatch.setattr(in_memory, "available_memory", lambda: 1_000)
    assert trained(tmp_path / "auto", table) == held
    assert streams, "rows that free memory cannot hold stay on disk"


ALLOWED_MB = 48
WIDTH = 200
GROUP = 25_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and their use are those of Linux")
def test_a_table_of_ten_times_the_memory_that_is_allowed_trains_as_one_in_memory(tmp_path: Path) -> None:
    rows = 625_000
    assert rows * (4 * WIDTH + 8) > 10 * ALLOWED_MB * 2**20
    words = [
        "data.shuffle_window=8192",
        "data.batch_size=512",
        "model.width=8",
        "model.depth=1",
        "model.num_bins=0",
        "model.linear=false",
        "data.encoder.scaling=standard",
        "trainer.max_epochs=2",
        "schema.label=y",
    ]
    for name, count in (("whole", rows), ("half", 300_000)):
        write_numbers(tmp_path / name / "train" / "part.parquet", count)
        write_numbers(tmp_path / name / "val" / "part.parquet", GROUP)
    held = limited(tmp_path / "whole", tmp_path / "held", 0, *words, "data.in_memory=true")
    held_half = limited(tmp_path / "half", tmp_path / "held-half", 0, *words, "data.in_memory=true")
    stored = limited(tmp_path / "whole", tmp_path / "stored", ALLOWED_MB, *words, "data.in_memory=auto")
    half = limited(tmp_path / "half", tmp_path / "of-half", ALLOWED_MB, *words, "data.in_memory=auto")
    assert (stored["weights"], stored["auroc"]) == (held["weights"], held["auroc"])
    assert half["weights"] == held_half["weights"]
    # flat in rows: what the allocator keeps differs by megabytes from run to run, a tenth of the table would not fit
    assert max(stored["taken_mb"], half["taken_mb"]) < ALLOWED_MB
    with pytest.raises(AssertionError, match=r"data\.in_memory: .* do not fit into the memory that is allowed"):
        limited(tmp_path / "whole", tmp_path / "refused", ALLOWED_MB, *words, "data.in_memory=true")


def write_numbers(path: Path, rows: int) -> None:
    """Write ``WIDTH`` numbers a row, whose first two make a label of 0 or 1."""
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(rows)
    names = [f"n{place}" for place in range(WIDTH)]
    schema = pa.schema([*((name, pa.float32()) for name in names), ("y", pa.int64())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(rows // GROUP):
            x = rng.standard_normal((GROUP, WIDTH), dtype=np.float32)
            y = (x[:, 0] + x[:, 1] + rng.logistic(size=GROUP) > 0).astype(np.int64)
            writer.write_table(pa.table([*x.T, y], schema=schema))


def limited(data: Path, out: Path, megabytes: int, *words: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("limited.py")), str(data), str(out), str(megabytes), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr, done.stdout)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
