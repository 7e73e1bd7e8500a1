from __future__ import annotations

import numpy as np

from tabstep.encoding.out_of_fold import ALPHA, FOLDS, OUTPUTS, centred, held_out_rates, row_folds


def test_folds_are_even_and_a_function_of_the_row() -> None:
    folds = row_folds(0, 50_000)
    assert np.abs(np.bincount(folds, minlength=FOLDS) / 50_000 - 1 / FOLDS).max() < 0.01
    assert np.array_equal(np.concatenate([row_folds(0, 7), row_folds(7, 11)]), folds[:18])


def test_held_out_rates_by_hand() -> None:
    place = np.array([0, 0, 0, 1, 1])
    targets = np.array([[1.0], [2.0], [4.0], [5.0], [7.0]])
    folds = np.array([0, 1, 1, 3, 3])
    expected = [6 / (2 + ALPHA), 1 / (1 + ALPHA), 1 / (1 + ALPHA), 0.0, 0.0]
    np.testing.assert_allclose(held_out_rates(place, targets, folds)[:, 0], expected)


def test_the_most_frequent_outputs_are_centred() -> None:
    labels = np.repeat(np.arange(20), np.arange(1, 21))
    targets = (labels[:, None] == np.arange(20)).astype(float)
    result = centred(targets)
    assert result.shape == (len(labels), OUTPUTS)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-12)
    assert result[labels == 19].sum(axis=1).min() > 0
