from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

from tabstep.encoding.numeric import NumericColumn, NumericFit, Scaling

SCALINGS: list[Scaling] = ["quantile", "robust", "standard"]


def fit(values: Any, scaling: Scaling, *, batch: int = 1_000) -> NumericColumn:
    column = pa.array(values, from_pandas=False) if not isinstance(values, pa.Array) else values
    table = pa.table({"x": column})
    fitted = NumericFit(["x"], scaling=scaling, num_rows=table.num_rows, num_labels=1, seed=0)
    row = 0
    for part in table.to_batches(max_chunksize=batch):
        fitted.add(part, np.zeros((part.num_rows, 1)), row)
        row += part.num_rows
    return fitted.finish()[0]


@pytest.fixture(scope="module")
def heavy() -> np.ndarray:
    return np.random.default_rng(0).standard_t(2, 20_000)


def test_standard_equals_scikit_learn(heavy: np.ndarray) -> None:
    expected = StandardScaler().fit_transform(heavy[:, None])[:, 0]
    np.testing.assert_allclose(fit(heavy, "standard").apply(heavy), expected.clip(-10, 10), rtol=1e-10, atol=1e-10)


def test_robust_equals_scikit_learn_and_a_smooth_clip(heavy: np.ndarray) -> None:
    z = RobustScaler(unit_variance=True).fit_transform(heavy[:, None])[:, 0]
    scaled = fit(heavy, "robust").apply(heavy)
    np.testing.assert_allclose(scaled, z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-10, atol=1e-10)
    assert np.abs(scaled).max() < 3


def test_quantile_equals_scikit_learn_inside_the_range(heavy: np.ndarray) -> None:
    oracle = QuantileTransformer(n_quantiles=1_000, subsample=None, output_distribution="normal")
    expected = oracle.fit_transform(heavy[:, None])[:, 0]
    scaled = fit(heavy, "quantile").apply(heavy)
    inside = np.abs(expected) < norm.ppf(0.995)
    np.testing.assert_allclose(scaled[inside], expected[inside], atol=0.01)
    assert scaled.max() == pytest.approx(norm.ppf(1 - 0.5 / 20_000), abs=1e-6)  # finite, where scikit-learn has 5.2
    assert (np.diff(scaled[np.argsort(heavy)]) >= 0).all()


def test_quantile_ties_take_the_middle_of_their_ranks_as_in_scikit_learn() -> None:
    values = np.random.default_rng(1).integers(-4, 5, 30_000).astype(float)
    oracle = QuantileTransformer(n_quantiles=1_000, subsample=None, output_distribution="normal")
    expected = oracle.fit_transform(values[:, None])[:, 0]
    scaled = fit(values, "quantile").apply(values)
    inside = np.abs(values) < 4  # scikit-learn sends a tied minimum to -5.2, here it keeps its middle rank
    np.testing.assert_allclose(scaled[inside], expected[inside], atol=0.005)
    share = (values == -4).mean()
    assert scaled[values == -4][0] == pytest.approx(norm.ppf(share / 2), abs=1e-5)


def test_quantile_of_a_few_values_by_hand() -> None:
    column = fit([10.0, 20.0, 20.0, 40.0], "quantile")
    assert column.knots == (10.0, 20.0, 40.0)
    np.testing.assert_allclose(column.scores, norm.ppf([0.5 / 4, 2 / 4, 3.5 / 4]), atol=1e-6)
    scaled = column.apply(np.array([-1e300, 10, 15, 30, 40, 1e300, np.nan]))
    low, high = norm.ppf([0.125, 0.875])
    np.testing.assert_allclose(scaled, [low, low, low / 2, high / 2, high, high, 0], atol=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaled_columns_of_well_behaved_data_are_near_standard_normal(scaling: Scaling) -> None:
    values = np.random.default_rng(0).normal(50, 7, 50_000)
    scaled = fit(values, scaling).apply(values)
    assert abs(scaled.mean()) < 0.02
    assert abs(scaled.std() - 1) < 0.15


@pytest.mark.parametrize("scaling", SCALINGS)
def test_result_depends_on_neither_batches_nor_neighbours(scaling: Scaling, heavy: np.ndarray) -> None:
    column = fit(heavy, scaling)
    other = fit(heavy, scaling, batch=77)
    assert column.knots == other.knots
    assert other.center == pytest.approx(column.center, rel=1e-12)
    whole = column.apply(heavy[:3_000])
    single = np.concatenate([column.apply(heavy[index : index + 1]) for index in range(3_000)])
    assert np.array_equal(whole, single)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308, 0.0, 1.7e308],
        [5e-324, 1e-323, 0.0, 2e-323],
        [1e-200, 2e-200, 3e-200],
        [1e16, 1e16 + 2, 1e16 + 4],
        [0.0] * 999 + [1e300],
        [float("inf"), float("-inf"), 1.0, 2.0, float("nan"), None],
        [2**63 - 1, -(2**63), 0],
    ],
    ids=["huge", "subnormal", "tiny", "close", "spike", "infinite", "int64"],
)
def test_extremes_stay_finite_and_in_order(scaling: Scaling, values: list[float | None]) -> None:
    column = fit(pa.array(values), scaling)
    probe = np.array([-np.finfo(float).max, -1e300, -1.0, 0.0, 5e-324, 1.0, 1e300, np.finfo(float).max])
    scaled = column.apply(probe)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= 10
    assert (np.diff(scaled) >= 0).all()
    json.dumps(column.to_dict(), allow_nan=False)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_missing_is_zero_with_an_indicator_and_a_constant_is_zero(scaling: Scaling) -> None:
    mixed = fit(pa.array([1.0, None, float("nan"), float("inf"), 3.0]), scaling)
    assert (mixed.indicator, mixed.count, mixed.minimum, mixed.maximum) == (True, 2, 1.0, 3.0)
    assert mixed.apply(np.array([np.nan])).tolist() == [0.0]
    constant = fit(pa.array([7, 7, None]), scaling)
    assert (constant.scaling, constant.indicator) == ("constant", True)
    assert constant.apply(np.array([7.0, 8.0, np.nan])).tolist() == [0.0, 0.0, 0.0]
    empty = fit(pa.array([None, float("nan")], pa.float64()), scaling)
    assert (empty.scaling, empty.indicator, empty.count, empty.mean) == ("constant", False, 0, 0.0)


def test_robust_where_more_than_half_is_tied_falls_back_to_the_standard_deviation() -> None:
    values = np.array([0.0] * 90 + [10.0] * 10)
    assert fit(values, "robust").scale == pytest.approx(values.std())


def test_extremes_of_the_column_are_knots_even_where_the_sample_lacks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabstep.encoding.numeric._SAMPLE_ROWS", 50)
    values = np.zeros(10_000)
    values[4_321] = 9.0
    column = fit(values, "quantile")
    assert (column.knots[0], column.knots[-1]) == (0.0, 9.0)
    assert column.scores[-1] == pytest.approx(norm.ppf(1 - 0.5 / 10_000), abs=1e-6)


@given(
    values=st.lists(st.none() | st.floats(), min_size=1, max_size=30),
    scaling=st.sampled_from(SCALINGS),
    probe=st.floats(),
)
def test_any_column_survives_json_bit_for_bit(values: list[float | None], scaling: Scaling, probe: float) -> None:
    column = fit(pa.array(values, pa.float64()), scaling)
    again = NumericColumn.from_dict(json.loads(json.dumps(column.to_dict(), allow_nan=False)))
    assert again == column
    probes = np.where(np.isfinite(probe), probe, np.nan)[None]
    scaled = column.apply(probes)
    assert np.isfinite(scaled).all()
    assert np.array_equal(scaled, again.apply(probes))
