from __future__ import annotations

import math

import pyarrow as pa
import pytest

from tabstep.encoding.row_weights import check_total, row_weights
from tabstep.errors import UserError


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf, None, 1e39])
def test_a_weight_that_is_none_is_named_with_its_row(wrong: float | None) -> None:
    batch = pa.RecordBatch.from_pydict({"w": [1.0, wrong]})
    with pytest.raises(UserError, match=r"data.train: column 'w' has the weight \S+ in row 11: weights are finite"):
        row_weights(batch, "w", first_row=10, where="data.train")


def test_a_column_without_weights_is_called_so() -> None:
    batch = pa.RecordBatch.from_pydict({"w": pa.array([None, None], pa.float64())})
    line = r"data\.train: column 'w' holds no weights: rows 10 to 11 are null: fill it, or set schema\.weight=null"
    with pytest.raises(UserError, match=line):
        row_weights(batch, "w", first_row=10, where="data.train")


def test_integers_are_weights() -> None:
    assert row_weights(pa.RecordBatch.from_pydict({"w": [3, 0]}), "w", first_row=0, where="x").tolist() == [3.0, 0.0]


def test_some_row_must_count() -> None:
    check_total(0.5, "w", where="data.val")
    with pytest.raises(UserError, match=r"data\.val: every weight in column 'w' is zero"):
        check_total(0.0, "w", where="data.val")
