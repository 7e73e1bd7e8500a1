from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.errors import UserError
from tabstep.tables.frames import keep_table, like, to_table

VALUES: dict[str, list[Any]] = {"age": [31, 42, 53], "job": ["nurse", None, "cook"], "size": [1.5, 2.0, 0.25]}
FRAME = pd.DataFrame(VALUES)


@pytest.mark.parametrize(
    "given",
    [
        FRAME,
        FRAME.iloc[[2, 0, 1]].sort_index(),
        pl.DataFrame(VALUES),
        pl.DataFrame(VALUES).lazy().collect(),
        pa.table(VALUES),
        pa.RecordBatch.from_pydict(VALUES),
        VALUES,
        {"age": np.array([31, 42, 53]), "job": pd.Series(VALUES["job"]), "size": pl.Series(VALUES["size"])},
    ],
    ids=lambda given: f"{type(given).__module__}.{type(given).__name__}",
)
def test_every_library_gives_the_same_rows(given: Any) -> None:
    table = to_table(given, where="data")
    assert table.to_pydict() == VALUES
    assert table.schema.metadata is None


def test_categories_stay_dictionaries_of_plain_strings() -> None:
    polars = to_table(pl.DataFrame({"c": ["x", "y", "x"]}, schema={"c": pl.Categorical}), where="data")
    pandas = to_table(pd.DataFrame({"c": pd.Categorical(["x", "y", "x"])}), where="data")
    for table in (polars, pandas):
        assert pa.types.is_dictionary(table.schema.field("c").type)
        assert table.column("c").type.value_type in (pa.string(), pa.large_string())
        assert table.column("c").to_pylist() == ["x", "y", "x"]


def test_an_index_is_a_column_where_it_has_a_name() -> None:
    shuffled = FRAME.sample(frac=1, random_state=1)
    assert to_table(shuffled, where="data").column_names == ["age", "job", "size"]
    assert set(to_table(FRAME.set_index("age"), where="data").column_names) == {"age", "job", "size"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"age": 1}], "data: list is no table: give a DataFrame"),
        (3, "data: int is no table"),
        ({"a": [1, 2], "b": [1]}, "data: cannot be read as a table: .*length"),
        (pd.DataFrame({"a": [1, "x"]}), "data: cannot be read as a table: .*column a"),
        (pa.table([[1], [2]], names=["a", "a"]), "data: column 'a' stands 2 times"),
        ({"a": np.zeros((2, 2))}, "data: cannot be read as a table: only handle 1-dimensional arrays"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        to_table(given, where="data")
    assert "\n" not in str(caught.value)


def test_predictions_come_back_as_what_was_given() -> None:
    table = pa.table({"p": [0.25, 0.75, 0.5]})
    shuffled = FRAME.iloc[[2, 0, 1]]
    assert like(table, shuffled).index.tolist() == [2, 0, 1]
    assert isinstance(like(table, pl.DataFrame(VALUES)), pl.DataFrame)
    assert like(table, VALUES)["p"].tolist() == [0.25, 0.75, 0.5]
    assert like(table, "somewhere.parquet") is table


def test_the_same_rows_are_kept_once(tmp_path: Path) -> None:
    whole = pa.table(VALUES)
    in_chunks = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    path = keep_table(whole, tmp_path)
    before = path.stat().st_mtime_ns
    assert keep_table(in_chunks, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert keep_table(whole.slice(1), tmp_path) != path
    assert pq.read_table(path, page_checksum_verification=True).equals(whole)


def test_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    path = keep_table(pa.table(VALUES), tmp_path)
    path.write_bytes(b"PAR1")
    assert pq.read_table(keep_table(pa.table(VALUES), tmp_path)).num_rows == 3


def test_runs_of_equal_values_become_plain_values() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([7, 8]))
    assert to_table(pa.table({"age": runs}), where="data").to_pydict() == {"age": [7, 7, 8]}


def test_text_that_is_no_utf8_is_refused_in_one_line() -> None:
    text = pa.StringArray.from_buffers(1, pa.py_buffer(bytes(4) + b"\x01\0\0\0"), pa.py_buffer(b"\xff"))
    with pytest.raises(UserError, match=r"^data: is damaged: .*UTF8.*: make it again$"):
        to_table(pa.table({"city": text}), where="data")
