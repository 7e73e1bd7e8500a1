"""What a score is worth at every threshold: ROC, precision and recall, calibration, confusion, costs. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Rows that are taken for positive at each distinct score, the highest first; the first point takes none.

    ``thresholds`` ``(k,)`` begin with infinity; ``tp`` and ``fp`` ``(k,)`` count the positives and negatives with a
    score of at least the threshold.
    """

    thresholds: Floats
    tp: Ints
    fp: Ints

    @property
    def tpr(self) -> Floats:
        """Share of the positives that are found: recall."""
        return self.tp / max(int(self.tp[-1]), 1)

    @property
    def fpr(self) -> Floats:
        """Share of the negatives that are taken for positive."""
        return self.fp / max(int(self.fp[-1]), 1)

    @property
    def precision(self) -> Floats:
        """Share of positives among what is taken for positive; 1 where nothing is."""
        taken = self.tp + self.fp
        return np.where(taken > 0, self.tp / np.maximum(taken, 1), 1.0)


def curve(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> Curve:
    """Count positives and negatives above each distinct score of ``(n,)``.

    >>> found = curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    >>> found.tp.tolist(), found.fp.tolist()
    ([0, 1, 1, 2, 2], [0, 0, 1, 1, 2])
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order]
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    tp, fp = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    return Curve(
        thresholds=np.concatenate([[np.inf], ranked[last].astype(np.float64)]),
        tp=np.concatenate([[0], tp]),
        fp=np.concatenate([[0], fp]),
    )


def thinned(x: Floats, y: Floats, points: int) -> tuple[Floats, Floats]:
    """Return at most about ``points`` of a line's points, evenly spread along it: what an eye sees is the same.

    >>> [line.tolist() for line in thinned(np.arange(5.0), np.zeros(5), 3)]
    [[0.0, 2.0, 4.0], [0.0, 0.0, 0.0]]
    """
    if len(x) <= points:
        return x, y
    way = np.cumsum(np.abs(np.diff(x, prepend=x[0])) + np.abs(np.diff(y, prepend=y[0])))
    kept = np.unique(np.searchsorted(way, np.linspace(0.0, way[-1], points)).clip(0, len(x) - 1))
    return x[kept], y[kept]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Bins of equal width that hold a row: mean probability, share of positives and rows ``(b,)``.

    The calibration error is no part of it: it depends on the bins, and is that of ``training.calibration`` everywhere.
    """

    predicted: Floats
    share: Floats
    rows: Ints


def reliability(probs: NDArray[np.floating], truth: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Compare probabilities ``(n,)`` with how often they come true."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    # without the outer edges: the last bin has the probability of 1 too
    place = np.searchsorted(edges[1:-1], probs)
    rows = np.bincount(place, minlength=bins)
    held = rows > 0
    predicted = np.bincount(place, weights=probs, minlength=bins)[held] / rows[held]
    share = np.bincount(place, weights=truth, minlength=bins)[held] / rows[held]
    return Reliability(predicted=predicted, share=share, rows=rows[held])


def confusion(y: Ints, predicted: Ints, num_classes: int) -> Ints:
    """Return how often each class (row) is taken for each (column), ``(C, C)``."""
    return np.bincount(y * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """Outcomes ``(k,)`` when rows with a probability above a threshold are taken for positive."""

    thresholds: Floats
    tp: Ints
    fp: Ints
    fn: Ints
    tn: Ints

    def costs(self, fp: float, fn: float) -> Floats:
        """Return what the mistakes cost at each threshold."""
        return fp * self.fp + fn * self.fn


def decisions(probs: NDArray[np.floating], truth: NDArray[np.bool_], thresholds: Sequence[float]) -> Decisions:
    """Count outcomes at some thresholds; an exact threshold is a negative, as everywhere in predictions.

    >>> found = decisions(np.array([0.2, 0.5, 0.9]), np.array([False, True, True]), [0.5])
    >>> [int(counts[0]) for counts in (found.tp, found.fp, found.fn, found.tn)]
    [1, 0, 1, 1]
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    positives, negatives = np.sort(probs[truth]), np.sort(probs[~truth])
    fn, tn = np.searchsorted(positives, cuts, side="right"), np.searchsorted(negatives, cuts, side="right")
    return Decisions(thresholds=cuts, tp=len(positives) - fn, fp=len(negatives) - tn, fn=fn, tn=tn)
