from __future__ import annotations

import pickle
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


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
@pytest.mark.parametrize("cuts", [[], [1], [65_536, 100_000, 180_001]])
def test_fits_of_parts_join_to_that_of_one_pass(tmp_path: Path, cuts: list[int], scaling: str) -> None:
    source = make_source(tmp_path, rows=210_000)
    options = EncoderOptions(scaling=scaling, max_categories=50, min_frequency=3)  # type: ignore[arg-type]

    def fresh() -> ColumnFits:
        return ColumnFits(source, SCHEMA, options=options, task=None, classes=None, seed=0)

    alone, joined = fresh(), fresh()
    scan(source, alone.columns, [alone])
    whole = pa.Table.from_batches(source.batches(alone.columns))
    for first, stop in zip([0, *cuts], [*cuts, source.num_rows], strict=True):
        part = fresh()
        batches = whole.slice(first, stop - first).combine_chunks().to_batches()
        for batch in batches:
            part.merge(part.part(batch, first))
        part.compact()
        joined.join(pickle.loads(pickle.dumps(part)))
    assert joined.complete
    one, other = alone.finish(), joined.finish()
    for name in ("task", "classes", "categorical", "spikes", "times"):
        assert one[name] == other[name]
    for column, expected in zip(other["numeric"], one["numeric"], strict=True):
        facts, wanted = column.to_dict(), expected.to_dict()
        for name in ("mean", "std", "center", "scale"):  # sums of other blocks: the last bits differ
            assert facts.pop(name) == pytest.approx(wanted.pop(name), rel=1e-12)
        assert facts == wanted


def test_a_label_of_a_later_part_gets_the_next_number(tmp_path: Path) -> None:
    schema = Schema(label=("y",), numeric=("x",), categorical=())
    rows = pa.table({"x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "y": ["b", "a", "c", "a", "d", "b"]})
    pq.write_table(rows, tmp_path / "t.parquet")
    source = open_source(str(tmp_path), split="train")
    whole, parts = ColumnFits(source, schema, options=OPTIONS, task=None, classes=None, seed=0), []
    for first in (0, 2, 4):
        part = ColumnFits(source, schema, options=OPTIONS, task=None, classes=None, seed=0)
        part.merge(part.part(rows.slice(first, 2).to_batches()[0], first))
        parts.append(part)
    for part in parts:
        whole.join(part)
    assert whole._labels.targets(whole._numeric.sampled_labels).argmax(axis=1).tolist() == [0, 1, 2, 1, 3, 0]
    assert whole.finish()["classes"] == ("a", "b", "c", "d")
