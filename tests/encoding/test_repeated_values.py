from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.encoding.categorical import MISSING, RARE
from tabstep.encoding.repeated_values import MAX_VALUES, SpikeColumn, SpikeFit


def fit(*blocks: list[float]) -> tuple[SpikeColumn, ...]:
    fitted = SpikeFit(["x"])
    for block in blocks:
        fitted.add(np.array([block]))
    return fitted.finish()


def test_the_values_of_a_column_that_is_mostly_one_of_them_become_codes() -> None:
    (column,) = fit([0.0] * 50 + [2.5] * 5, [0.0] * 40 + [-1.0] * 7 + [9.0] * 4 + [np.nan] * 500)
    assert column.values == (-1.0, 0.0, 2.5)
    codes = column.codes(np.array([-1.0, 0.0, -0.0, 2.5, 9.0, 1e300, -1e300, np.nan]))
    assert codes.tolist() == [3, 4, 4, 5, RARE, RARE, RARE, MISSING]
    assert column.cardinality == 6


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 49 + [float(index) for index in range(1, 60)],  # no value is that common
        [0.0] * 900 + [float(index) for index in range(MAX_VALUES + 1)],  # too many values
        [0.0] * 90 + [1.0] * 10,  # two values: the scaling tells them apart
        [np.nan] * 100,
        [],
    ],
)
def test_other_columns_are_left_to_the_scaling(values: list[float]) -> None:
    assert fit(values) == ()


def test_a_column_let_go_in_one_batch_stays_so() -> None:
    many = [float(index) for index in range(MAX_VALUES + 1)]
    assert fit(many, [0.0] * 100_000) == ()


@given(rows=st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0, float("nan")]), max_size=60), cut=st.integers(0, 60))
def test_the_result_depends_neither_on_the_cut_into_batches_nor_on_json(rows: list[float], cut: int) -> None:
    whole = fit(rows)
    assert fit(rows[:cut], rows[cut:]) == whole
    assert tuple(SpikeColumn.from_dict(json.loads(json.dumps(column.to_dict()))) for column in whole) == whole
