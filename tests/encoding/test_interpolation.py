from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.encoding.interpolation import Curve

finite = st.floats(allow_nan=False, allow_infinity=False)


def expected(knots: np.ndarray, scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    made: np.ndarray = np.interp(values, knots, scores).clip(scores[0], scores[-1])
    return made


@pytest.mark.parametrize("size", [2, 7, 200, 1_000])
@pytest.mark.parametrize("shape", ["normal", "heavy", "moments", "two heaps", "integers"])
def test_equals_numpy_to_the_last_bit(shape: str, size: int) -> None:
    rng = np.random.default_rng(size)
    draw = {
        "normal": rng.standard_normal,
        "heavy": lambda n: np.exp(3 * rng.standard_normal(n)),
        "moments": lambda n: 1.7e9 + 3e7 * rng.random(n),
        "two heaps": lambda n: np.where(rng.random(n) < 0.5, rng.standard_normal(n), 1e6 + rng.standard_normal(n)),
        "integers": lambda n: rng.integers(0, 500, n).astype(np.float64),
    }[shape]
    knots = np.unique(draw(size))
    scores = np.sort(rng.standard_normal(len(knots)))
    values = np.concatenate([draw(20_000), knots, np.nextafter(knots, np.inf), [-1e308, 1e308, -np.inf, np.inf]])
    values[::17] = np.nan
    assert np.array_equal(Curve(knots, scores).apply(values), expected(knots, scores, values), equal_nan=True)
    assert np.array_equal(Curve(knots, scores).apply(values[:9]), expected(knots, scores, values[:9]), equal_nan=True)
    curve = Curve(knots, scores)
    pieces = [curve.apply(values[start : start + 500]) for start in range(0, len(values), 500)]
    assert np.array_equal(np.concatenate(pieces), expected(knots, scores, values), equal_nan=True)


@given(knots=st.lists(finite, min_size=1, max_size=40, unique=True), values=st.lists(finite, min_size=1, max_size=20))
def test_any_knots_and_any_values(knots: list[float], values: list[float]) -> None:
    """Denormal and immense distances too, where a slope or a difference overflows."""
    places = np.unique(np.array(knots))  # 0.0 and -0.0 are one knot
    scores = np.linspace(-3.0, 3.0, len(places))
    many = np.resize(np.array([*values, *knots]), 4_096)
    with np.errstate(all="ignore"):
        assert np.array_equal(Curve(places, scores).apply(many), expected(places, scores, many), equal_nan=True)
