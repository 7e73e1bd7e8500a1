from __future__ import annotations

from pathlib import Path
from typing import Any

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
