from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.encoding.column_fits import ColumnFits, EncoderOptions, Tentative
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.schema import Schema
from tabstep.tables.scan import scan
from tabstep.tables.source import ParquetSource, open_source

OPTIONS = EncoderOptions(scaling="quantile", max_categories=50, min_frequency=3)
SCHEMA = Schema(label=("y",), numeric=("x", "t"), categorical=("c",))


def make_source(directory: Path, *, rows: int = 230_000, bad_label_in: int | None = None) -> ParquetSource:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, rows).astype(object)
    if bad_label_in is not None:
        labels[bad_label_in] = None
    columns = {
        "x": pa.array(rng.standard_normal(rows) * 10.0 ** rng.integers(-5, 5, rows), mask=rng.random(rows) < 0.1),
        "t": pa.array(rng.integers(0, 10**9, rows), pa.timestamp("s")),
        "c": pa.array(rng.integers(0, 300, rows).astype(str)),
        "y": pa.array(labels.tolist(), pa.int64()),
    }
    pq.write_table(pa.table(columns), directory / "t.parquet", row_group_size=50_000)
    return open_source(str(directory), split="train")


def fits(source: ParquetSource) -> ColumnFits:
    return ColumnFits(source, SCHEMA, options=OPTIONS, task=None, classes=None, seed=0)


def test_any_number_of_threads_fits_the_same_to_the_last_bit(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    found = []
    for workers in (1, 2, 7):
        collected = fits(source)
        scan(source, collected.columns, [collected], workers=workers)
        assert collected.complete
        found.append(Encoder(**collected.finish()).to_json())
    assert found[0] == found[1] == found[2]
    assert (
        found[0] == Encoder.of(fits(source), source, EncoderOptions(**{**vars(OPTIONS), "statistics": False})).to_json()
    )


def test_a_tentative_collector_gives_up_and_lets_the_others_go_on(tmp_path: Path) -> None:
    source = make_source(tmp_path, rows=140_000, bad_label_in=70_000)
    collected, other = fits(source), fits(source)
    scan(source, collected.columns, [Tentative(collected)])
    assert not collected.complete
    with pytest.raises(UserError, match="column 'y' is null in row 70000"):
        scan(source, collected.columns, [other])
