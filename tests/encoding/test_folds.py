from __future__ import annotations

import numpy as np

from tabstep.encoding.folds import (
    ALPHA,
    FOLDS,
    OUTPUTS,
    centred,
    held_out_rates,
    of_other_folds,
    row_folds,
    sums_by_fold,
)

RNG = np.random.default_rng(0)
PLACE, TARGETS, FOLD = RNG.integers(0, 4, 60), RNG.random((60, 2)), RNG.integers(0, FOLDS, 60)


def test_a_fold_follows_from_the_row_number() -> None:
    whole = row_folds(0, 1000)
    np.testing.assert_array_equal(np.concatenate([row_folds(0, 301), row_folds(301, 699)]), whole)
    counts = np.bincount(whole, minlength=FOLDS)
    assert len(counts) == FOLDS
    assert counts.min() > 150


def test_sums_equal_a_loop() -> None:
    expected = np.zeros((3, 4, FOLDS))
    for group, target, fold in zip(PLACE, TARGETS, FOLD, strict=True):
        expected[:, group, fold] += [1, *target]
    np.testing.assert_allclose(sums_by_fold(PLACE, 4, TARGETS, FOLD), expected)


def test_a_row_never_sees_its_own_fold() -> None:
    others = of_other_folds(sums_by_fold(PLACE, 4, TARGETS, FOLD), PLACE, FOLD)
    rates = held_out_rates(PLACE, TARGETS, FOLD)
    for row in range(60):
        seen = (PLACE[row] == PLACE) & (FOLD[row] != FOLD)
        np.testing.assert_allclose(others[:, row], [seen.sum(), *TARGETS[seen].sum(axis=0)])
        np.testing.assert_allclose(rates[row], TARGETS[seen].sum(axis=0) / (seen.sum() + ALPHA))


def test_the_most_frequent_classes_are_centred() -> None:
    classes = np.eye(OUTPUTS + 2)[RNG.integers(0, OUTPUTS + 2, 500)]
    found = centred(classes)
    assert found.shape == (500, OUTPUTS)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    most = np.sort(classes.sum(axis=0))[::-1][:OUTPUTS]
    np.testing.assert_allclose((found > 0).sum(axis=0), most)
