from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.tables.scan import scan
from tabstep.tables.source import ParquetSource, open_source


class Seen:
    """Collects which rows there were."""

    def __init__(self, rows_wanted: int) -> None:
        self.rows_wanted = rows_wanted
        self.values: list[int] = []

    def part(self, batch: pa.RecordBatch, first_row: int) -> tuple[int, list[int]]:
        return first_row, batch["a"].to_pylist()

    def merge(self, part: tuple[int, list[int]]) -> None:
        assert part[0] == len(self.values)
        self.values += part[1]


@pytest.fixture
def source(tmp_path: Path) -> ParquetSource:
    pq.write_table(pa.table({"a": range(150_000)}), tmp_path / "t.parquet", row_group_size=40_000)
    return open_source(str(tmp_path), split="train")


@pytest.mark.parametrize("workers", [1, 3])
def test_every_collector_sees_the_rows_in_their_order(source: ParquetSource, workers: int) -> None:
    first, second = Seen(150_000), Seen(10)
    scan(source, ["a"], [first, second], workers=workers)
    assert first.values == second.values == list(range(150_000))


def test_no_more_is_read_than_is_wanted(source: ParquetSource) -> None:
    few = Seen(10)
    scan(source, ["a"], [few])
    assert 10 <= len(few.values) < 150_000
