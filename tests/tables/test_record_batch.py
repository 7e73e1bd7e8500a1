from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tabstep.errors import UserError
from tabstep.tables.record_batch import get_column, numbers, texts

HOSTILE = ["keys", "a.b", "c", "", "🦊", "x" * 200, "type", "__class__", "a/b", "'", "\n"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str) -> None:
    batch = pa.record_batch([pa.array([index]) for index in range(len(HOSTILE))], names=HOSTILE)
    assert numbers(batch, name).tolist() == [HOSTILE.index(name)]


def test_missing_and_duplicated_columns() -> None:
    batch = pa.record_batch([pa.array([1]), pa.array([1]), pa.array([2])], names=["age", "dup", "dup"])
    with pytest.raises(UserError, match=r"^column 'agee' is missing: did you mean 'age'\?$"):
        get_column(batch, "agee")
    with pytest.raises(UserError, match=r"^column 'dup' stands 2 times"):
        get_column(batch, "dup")


def test_whatever_is_no_finite_number_is_missing() -> None:
    batch = pa.record_batch({"x": pa.array([1.0, None, float("inf"), float("-inf"), float("nan")])})
    assert np.isnan(numbers(batch, "x")).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("dtype", [pa.string(), pa.null(), pa.list_(pa.int8()), pa.bool_()])
def test_a_column_without_a_value_may_have_any_type(dtype: pa.DataType) -> None:
    batch = pa.record_batch({"x": pa.nulls(2, dtype)})
    assert np.isnan(numbers(batch, "x")).all()
    assert texts(batch, "x", "number").to_pylist() == [None, None]


def test_wrong_types_name_the_column() -> None:
    batch = pa.record_batch({"x": pa.array(["1"]), "b": pa.array([b"1"]), "i": pa.array([1])})
    with pytest.raises(UserError, match=r"^column 'x': a number is due"):
        numbers(batch, "x")
    with pytest.raises(UserError, match=r"^column 'b': .*binary"):
        texts(batch, "b")
    with pytest.raises(UserError, match=r"^column 'i' has type int64, a text is due as in train"):
        texts(batch, "i", "text")
