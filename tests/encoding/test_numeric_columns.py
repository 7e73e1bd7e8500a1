"""Columns that are taken together come out as each by itself, whatever their types, order and number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pytest

from tabstep.encoding import numeric_columns
from tabstep.encoding.numeric import NumericColumn
from tabstep.encoding.numeric_columns import NumericColumns
from tabstep.errors import UserError
from tabstep.tables.column_types import ValueKind
from tabstep.tables.record_batch import numbers

TYPES: Mapping[str, tuple[pa.DataType, ValueKind]] = {
    "small": (pa.int8(), "number"),
    "day": (pa.date32(), "date"),
    "double": (pa.float64(), "number"),
    "big": (pa.int64(), "number"),
    "half": (pa.float16(), "number"),
    "single": (pa.float32(), "number"),
    "unsigned": (pa.uint64(), "number"),
    "empty": (pa.null(), "number"),
    "flag": (pa.bool_(), "boolean"),
    "second double": (pa.float64(), "number"),
    "money": (pa.decimal128(12, 2), "number"),
}


SCALINGS: Final = ("quantile", "standard", "robust", "constant")


def column(name: str, kind: ValueKind, place: int) -> NumericColumn:
    """Return a column whose scaling and indicator go by its place."""
    return NumericColumn(
        name=name,
        kind=kind,
        scaling=SCALINGS[place % 4],
        indicator=place % 2 > 0,
        count=9,
        mean=1.0,
        std=2.0,
        minimum=0.0,
        maximum=9.0,
        center=0.5 + place,
        scale=1.5,
        knots=(0.0, 1.0 + place, 9.0 + 2 * place),
        scores=(-1.0, 0.3, 1.1),
    )


FITTED = [column(name, kind, place) for place, (name, (_, kind)) in enumerate(TYPES.items())]


def rows(count: int, *, seed: int = 0) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, (dtype, _) in TYPES.items():
        mask = rng.random(count) < (0.3 if name != "second double" else 0.0)
        values = rng.integers(0, 2 if name == "flag" else 20, count)
        if dtype == pa.null():
            arrays[name] = pa.nulls(count)
        elif dtype == pa.float64():
            arrays[name] = pa.array(np.where(values == 7, np.inf, values + 0.25), mask=mask)
        else:
            plain = pa.array(values.astype(np.int32), mask=mask)
            arrays[name] = plain.cast(pa.float32()).cast(dtype) if dtype == pa.float16() else plain.cast(dtype)
    return pa.record_batch(dict(sorted(arrays.items())))


def each_by_itself(batch: pa.RecordBatch) -> np.ndarray:
    values = [numbers(batch, fitted.name, fitted.kind) for fitted in FITTED]
    scaled = [fitted.apply(read) for fitted, read in zip(FITTED, values, strict=True)]
    flags = [np.isnan(read) for fitted, read in zip(FITTED, values, strict=True) if fitted.indicator]
    return np.column_stack([*scaled, *flags]).astype(np.float32)


def encoded(columns: NumericColumns, batch: pa.RecordBatch) -> np.ndarray:
    width = len(FITTED) + sum(fitted.indicator for fitted in FITTED)
    x_num = np.full((batch.num_rows, width), -99.0, dtype=np.float32)
    columns.encode(batch, x_num)
    return x_num


@pytest.mark.parametrize("together", [1, 30, 65_536])
def test_together_is_each_by_itself(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numeric_columns, "_TOGETHER", together)
    columns = NumericColumns(FITTED)
    for batch in (rows(1), rows(13), rows(13, seed=1).slice(5, 7), rows(0)):
        np.testing.assert_array_equal(encoded(columns, batch), each_by_itself(batch))


def test_a_batch_of_other_types_is_read_anew() -> None:
    columns = NumericColumns(FITTED)
    batch = rows(13)
    before = encoded(columns, batch)
    wider = batch.set_column(batch.schema.get_field_index("small"), "small", batch["small"].cast(pa.float64()))
    np.testing.assert_array_equal(encoded(columns, wider), before)
    reordered = batch.select(batch.schema.names[::-1])
    np.testing.assert_array_equal(encoded(columns, reordered), before)


def test_the_numbers_that_are_kept() -> None:
    batch = rows(13)
    x_num = np.empty((13, 2 * len(FITTED)), dtype=np.float32)
    kept = NumericColumns(FITTED).encode(batch, x_num, keep=["day", "double"])
    assert kept.keys() == {"day", "double"}
    for name, values in kept.items():
        np.testing.assert_array_equal(values, numbers(batch, name))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"big": pa.array(["a"])}, "column 'big' has type string, a number is due as in train"),
        ({"day": pa.array([1]), "big": pa.array(["a"])}, "column 'day' has type int64, a date is due as in train"),
        ({"single": None}, "column 'single' is missing"),
    ],
)
def test_the_first_column_that_cannot_be_read_is_named(changed: dict[str, pa.Array | None], reason: str) -> None:
    arrays = {**dict(zip(TYPES, rows(1).select(list(TYPES)).columns, strict=True)), **changed}
    columns = NumericColumns(FITTED)
    encoded(columns, rows(1))
    with pytest.raises(UserError, match=reason):
        encoded(columns, pa.record_batch({name: array for name, array in arrays.items() if array is not None}))


def test_a_column_without_values_may_have_any_type() -> None:
    batch = rows(3)
    changed = batch.set_column(batch.schema.get_field_index("big"), "big", pa.nulls(3, pa.string()))
    place = list(TYPES).index("big")
    assert encoded(NumericColumns(FITTED), changed)[:, place].tolist() == [0.0, 0.0, 0.0]
