from __future__ import annotations

import numpy as np
import pytest

from tabstep.encoding.out_of_fold import row_folds
from tabstep.encoding.statistics_choice import CombinationJudge, _Fit


def judge(codes: np.ndarray, y: np.ndarray) -> CombinationJudge:
    sizes = [int(column.max()) + 1 for column in codes.T]
    return CombinationJudge(codes, y.reshape(len(y), -1).astype(float), row_folds(0, len(y)), sizes)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_fit_is_least_squares(outputs: int) -> None:
    """Each output by its own column of every input, and a constant; an input that repeats others changes nothing."""
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(400, outputs))
    inputs = [rng.normal(size=(400, outputs)) + targets * share for share in (0.5, 0.1, 2.0)]
    inputs.append(3.0 * inputs[0] - inputs[1])
    fit = _Fit(targets)
    for one in inputs[:-2]:
        fit.add(one)
    before = fit.left
    expected = np.empty((2, 400, outputs))
    for output in range(outputs):
        for number, count in enumerate((2, 3)):
            basis = np.column_stack([np.ones(400), *(one[:, output] for one in inputs[:count])])
            weights, *_ = np.linalg.lstsq(basis, targets[:, output], rcond=None)
            expected[number, :, output] = targets[:, output] - basis @ weights
    assert before == pytest.approx(expected[0], abs=1e-5)
    assert before - fit.step(inputs[2]) == pytest.approx(expected[1], abs=1e-5)
    assert not fit.step(inputs[3]).any()
    fit.add(inputs[2])
    assert fit.left == pytest.approx(expected[1], abs=1e-5)


def test_a_pair_is_found_whose_values_are_in_few_pairs() -> None:
    """Most of it is what single values say: the rates of what these leave would know the label of the row itself."""
    rng = np.random.default_rng(0)
    known = rng.integers(0, 500, (2, 750))
    pair = rng.integers(0, 750, 10_000)
    y = rng.random(10_000) < rng.beta(1, 3, 750)[pair]
    found = judge(known[:, pair].T, y).chosen(10)
    assert [columns for columns, _ in found] == [(0,), (1,), (0, 1)]
    assert found[2][1] > 0.03


def test_a_pair_that_adds_up_from_its_columns_is_none() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 150, (20_000, 2))
    effects = rng.normal(0, 0.15, (2, 150))
    y = rng.random(20_000) < np.clip(0.5 + effects[0, codes[:, 0]] + effects[1, codes[:, 1]], 0, 1)
    assert [columns for columns, _ in judge(codes, y).chosen(10)] == [(0,), (1,)]


def test_combinations_without_meaning_have_no_rates() -> None:
    """Of so many that are tried some seem to be worth something, and each pair of rows counts in both rows' rates."""
    sizes = [4, 3, 240, 2, 2, 12, 7, 31]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        codes = np.column_stack([rng.integers(0, size, 1_920) for size in sizes])
        y = rng.random(1_920) < 0.08 + 0.05 * (codes[:, 1] == 1)
        assert judge(codes, y).chosen(10) == []


def test_codes_without_meaning_have_no_rates() -> None:
    rng = np.random.default_rng(0)
    codes = np.column_stack([np.arange(5_000), rng.integers(0, 300, (5_000, 3))])
    assert judge(codes, rng.random(5_000) < 0.3).chosen(10) == []
