from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tabstep.run import read_progress
from tabstep.run.read_progress import ReadProgress
from tabstep.tables.source import open_source


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in the list's only place."""
    now = [100.0]
    monkeypatch.setattr(read_progress.time, "monotonic", lambda: now[0])
    return now


def passed(watch: ReadProgress, clock: list[float], *, seconds: float) -> None:
    """A pass over 1,000 rows at an even speed."""
    for done in range(100, 1_001, 100):
        watch("data.train", done, 1_000)
        clock[0] += seconds / 10


def test_a_log_has_a_line_every_five_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ReadProgress("lines") as watch:
        passed(watch, clock, seconds=1)
        passed(watch, clock, seconds=20)
    assert capsys.readouterr().out.splitlines() == [
        "data.train: 200 of 1,000 rows read, 0:00:16 left",
        "data.train: 500 of 1,000 rows read, 0:00:10 left",
        "data.train: 800 of 1,000 rows read, 0:00:04 left",
    ]


def test_a_terminal_has_a_bar_that_goes(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(read_progress, "Terminal", lambda: Console(file=screen, force_terminal=True, width=100))
    with ReadProgress("bar") as watch:
        for done in (100, 500):
            watch("data.train", done, 1_000)
            clock[0] += 8
    shown = screen.getvalue()
    assert "data.train: 500 of 1,000 rows read, 0:00:10 left" in shown
    assert shown.endswith("\x1b[2K")  # the line is taken away, the cursor is back
    assert "\x1b[?25h" in shown


def test_nothing_is_shown_where_nothing_is_wanted(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ReadProgress("none") as watch:
        passed(watch, clock, seconds=100)
    assert capsys.readouterr().out == ""


def test_a_source_tells_of_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(100)}), tmp_path / "t.parquet")
    told: list[tuple[str, int, int]] = []
    source = open_source(str(tmp_path), split="train").watched(lambda *progress: told.append(progress))
    assert sum(batch.num_rows for batch in source.batches(["a"], rows=40)) == 100
    assert told == [("data.train", 40, 100), ("data.train", 80, 100), ("data.train", 100, 100)]
