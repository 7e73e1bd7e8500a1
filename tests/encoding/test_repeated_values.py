from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.encoding.categorical import MISSING, RARE
from tabstep.encoding.repeated_values import MAX_VALUES, SpikeColumn, fit_spikes


def fit(values: list[float] | np.ndarray, label: np.ndarray | None = None) -> SpikeColumn | None:
    column = np.asarray(values, dtype=float)
    targets = np.zeros(len(column)) if label is None else label - label.mean()
    return fit_spikes("x", column, targets[:, None], np.arange(len(column)) % 5)


def test_the_values_of_a_column_that_is_mostly_one_of_them_become_codes() -> None:
    column = fit([0.0] * 90 + [2.5] * 5 + [-1.0] * 7 + [9.0] * 4 + [np.nan] * 500)
    assert column is not None
    assert (column.values, column.why) == ((-1.0, 0.0, 2.5), "85 % of the rows have one value")
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
    assert fit(values) is None


def test_integers_that_are_names_become_codes_and_quantities_do_not() -> None:
    rng = np.random.default_rng(0)
    shop = rng.integers(0, 300, 12_000)
    draw = rng.random(12_000)
    named = fit(shop, draw < rng.beta(0.5, 0.5, 300)[shop])
    assert named is not None
    assert len(named.values) == 300
    assert named.why.startswith("rates of single values leave ")
    assert named.why.endswith(" % less error than a curve")
    assert fit(shop, draw < shop / 300) is None  # a quantity: a line says it
    assert fit(shop, draw < 0.5 + 0.4 * np.sin(shop / 30)) is None  # and a curve
    assert fit(shop, draw < 0.3) is None  # nothing to say
    assert fit(shop + 0.5, draw < rng.beta(0.5, 0.5, 300)[shop]) is None  # no integers


def test_a_column_of_unique_integers_is_a_number() -> None:
    rng = np.random.default_rng(0)
    assert fit(rng.permutation(5_000), (rng.random(5_000) < 0.4).astype(float)) is None


@given(rows=st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0, float("nan")]), max_size=60))
def test_the_codes_come_back_from_json(rows: list[float]) -> None:
    column = fit(rows)
    if column is not None:
        assert SpikeColumn.from_dict(json.loads(json.dumps(column.to_dict()))) == column
