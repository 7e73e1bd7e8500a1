"""Which models to average: greedy selection with replacement."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tabstep.artifact.predictor import weighted_mean

Probabilities = NDArray[np.float32]


def select(parts: Sequence[Probabilities], score: Callable[[Probabilities], float], *, rounds: int) -> dict[int, int]:
    """Return how often each of the probabilities, arrays of one shape, is to count in their mean.

    In every round the one is added that makes the mean score best; of all rounds the best mean is taken, the smallest
    among equals. The first round takes the best single one, so that the mean never scores below it. Caruana et al.,
    "Ensemble Selection from Libraries of Models", ICML 2004.

    Args:
        score: larger is better; NaN is never better.

    Returns:
        Counts by index, the largest first; empty where no score is a number.

    >>> near = [np.float32([0.0, 1.0]), np.float32([0.4, 0.6]), np.float32([1.0, 0.5])]
    >>> select(near, lambda mean: -float(abs(mean - np.float32([0.2, 0.8])).sum()), rounds=5)
    {0: 1, 1: 1}
    """
    total = np.zeros_like(parts[0], dtype=np.float64)
    picks: list[int] = []
    best: dict[int, int] = {}
    best_score = -math.inf
    for count in range(1, rounds + 1):
        scores = [_number(score(((total + part) / count).astype(np.float32))) for part in parts]
        winner = int(np.argmax(scores))
        if scores[winner] == -math.inf:
            break
        picks.append(winner)
        total += parts[winner]
        counts = _counts(picks)
        # Summed as it will be: another order may turn a tie, and the promise is about what is used.
        found = score(weighted_mean([parts[index] for index in counts], list(counts.values())))
        if found > best_score:
            best, best_score = counts, found
    return best


def _counts(picks: Sequence[int]) -> dict[int, int]:
    counts = Counter(picks)
    return {index: counts[index] for index in sorted(counts, key=lambda index: (-counts[index], index))}


def _number(score: float) -> float:
    return -math.inf if math.isnan(score) else score
