"""AUROC of one score, for the checks and the built-in table: how well it ranks the positive rows first."""

from __future__ import annotations

import numpy as np


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve by the rank-sum formula with mid-ranks for ties; NaN for one class.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ones = int(np.count_nonzero(positive))
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    return float((rank[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
