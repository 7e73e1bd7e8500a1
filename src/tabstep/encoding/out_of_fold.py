"""Folds of train's rows, and the smoothed means of a target in the rows of other folds: evidence that does not leak."""

from __future__ import annotations

from typing import Final

import numpy as np

from tabstep.encoding.sketch import row_keys

FOLDS: Final = 5
ALPHA: Final = 10.0
"""Rows of the prior that each mean begins with."""
OUTPUTS: Final = 8
"""Columns of the target that evidence is taken from: the most frequent classes."""

# none that a sample has: whether a row is sampled must say nothing about its fold
_SEED: Final = 1


def row_folds(first_row: int, count: int) -> np.ndarray:
    """Return ``(count,)`` int64 folds, a pure function of the row number.

    >>> row_folds(0, 5)[3:].tolist() == row_folds(3, 2).tolist()
    True
    """
    return (row_keys(first_row, count, _SEED) % np.uint64(FOLDS)).astype(np.int64)


def sums_by_fold(place: np.ndarray, size: int, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return ``(1 + outputs, size, FOLDS)`` float64: the rows, then the sum of each column of ``targets``.

    ``place`` ``(n,)`` int64 below ``size`` says which group a row belongs to.

    >>> sums_by_fold(np.array([1, 1, 0]), 2, np.array([[1.0], [0.5], [1.0]]), np.array([0, 0, 4]))[1, 1, 0]
    np.float64(1.5)
    """
    index = place * FOLDS + folds
    parts = [np.bincount(index, weights, minlength=size * FOLDS) for weights in (None, *targets.T)]
    return np.stack([part.reshape(size, FOLDS).astype(np.float64) for part in parts])


def of_other_folds(by_fold: np.ndarray, place: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return ``(1 + outputs, n)``: what ``sums_by_fold`` found for each row's group, without the row's own fold."""
    others = by_fold.sum(axis=2, keepdims=True) - by_fold
    index = place * FOLDS + folds
    return np.stack([part.take(index) for part in others.reshape(len(others), -1)])


def held_out_rates(place: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return ``(n, outputs)``: the mean of centred ``targets`` in a group's rows of other folds, drawn towards 0."""
    others = of_other_folds(sums_by_fold(place, int(place.max(initial=0)) + 1, targets, folds), place, folds)
    rates: np.ndarray = (others[1:] / (others[0] + ALPHA)).T
    return rates


def centred(targets: np.ndarray) -> np.ndarray:
    """Return the most frequent columns of ``targets`` ``(n, outputs)`` with mean 0."""
    frequent = np.argsort(-targets.sum(axis=0), kind="stable")[:OUTPUTS]
    chosen: np.ndarray = targets[:, frequent] - targets[:, frequent].mean(axis=0)
    return chosen
