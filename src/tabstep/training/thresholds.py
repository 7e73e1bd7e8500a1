"""Decision thresholds: chosen on val for a goal, with the figures that they reach and how far these can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabstep.decision_goal import Goal

DRAWS = 1_000
"""Bootstrap samples of an interval."""
LEVEL = 0.95

Cells = NDArray[np.float64]
"""True positives, false positives, false negatives and true negatives, ``(4, ...)``."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A threshold: a row is positive where its probability is above it. Not ``reached``: the floor cannot be had."""

    threshold: float
    reached: bool = True


def choose_threshold(probs: NDArray[np.floating[Any]], y: NDArray[Any], goal: Goal) -> Choice:
    """Choose among all thresholds that tell rows apart, each half-way between two neighbouring probabilities.

    Of equal ones it is the one nearest to 0.5: a goal that says nothing about some of them moves nothing.
    """
    thresholds, cells = _candidates(np.asarray(probs, dtype=np.float64), np.asarray(y) > 0)
    value, allowed = _value(cells, goal)
    if not allowed.any():
        value, allowed = figure(cells, goal.name), np.ones_like(allowed)
        return Choice(threshold=_nearest(thresholds, value, allowed), reached=False)
    return Choice(threshold=_nearest(thresholds, value, allowed))


def _candidates(probs: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray[np.float64], Cells]:
    """Return every distinct threshold from above the highest probability down, and the cells that each makes."""
    order = np.argsort(-probs, kind="stable")
    ranked, hits = probs[order], positive[order]
    # -1 is below any probability, so that the last group ends too
    last = np.flatnonzero(np.diff(ranked, append=-1.0))  # of each group of equal probabilities
    tp = np.concatenate([[0], np.cumsum(hits)[last]]).astype(np.float64)
    taken = np.concatenate([[0], last + 1]).astype(np.float64)
    # above the highest one no row is positive, below the lowest all are
    edges = np.concatenate([[1.0], ranked[last], [0.0]])
    thresholds = (edges[:-1] + edges[1:]) / 2.0
    fp, total = taken - tp, float(hits.sum())
    return thresholds, np.stack([tp, fp, total - tp, len(probs) - total - fp])


def _value(cells: Cells, goal: Goal) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what is to be as high as possible, and where the goal's floor is kept."""
    if goal.name in ("precision", "recall"):
        other = "recall" if goal.name == "precision" else "precision"
        return figure(cells, other), figure(cells, goal.name) >= goal.floor
    value = -cost(cells, goal) if goal.name == "cost" else figure(cells, goal.name)
    return value, np.ones(value.shape, dtype=bool)


def _nearest(thresholds: NDArray[np.float64], value: NDArray[np.float64], allowed: NDArray[np.bool_]) -> float:
    best = value[allowed].max()
    equal = thresholds[allowed & (value >= best)]
    return float(equal[np.abs(equal - 0.5).argmin()])


def count_cells(probs: NDArray[np.floating[Any]], y: NDArray[Any], threshold: float) -> Cells:
    """Return the four cells of the confusion matrix at a threshold."""
    # float64: a threshold between two neighbours in float32 must stay between them
    taken, positive = np.asarray(probs, dtype=np.float64) > threshold, np.asarray(y) > 0
    pairs = [(taken, positive), (taken, ~positive), (~taken, positive), (~taken, ~positive)]
    return np.array([np.count_nonzero(a & b) for a, b in pairs], dtype=np.float64)


def figure(cells: Cells, name: str) -> NDArray[np.float64]:
    """Return accuracy, precision, recall or F1 of cells ``(4, ...)``; 0 where nothing is positive, as scikit-learn."""
    tp, fp, fn, tn = cells
    above, below = {
        "accuracy": (tp + tn, tp + fp + fn + tn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
    }[name]
    zeros = np.zeros_like(np.asarray(above, dtype=np.float64))
    return np.asarray(np.divide(above, below, out=zeros, where=below > 0))


def cost(cells: Cells, goal: Goal) -> NDArray[np.float64]:
    """Return the mean cost of a row."""
    return np.asarray((goal.fp * cells[1] + goal.fn * cells[2]) / cells.sum(axis=0))


def figures(cells: Cells, goal: Goal, *, seed: int = 0) -> dict[str, Any]:
    """Return each figure at a threshold, with the bounds of its 95 % bootstrap interval over rows.

    A bootstrap sample of rows is a multinomial draw of the four cells, for no figure looks at anything else.
    """
    total = int(cells.sum())
    drawn = np.random.Generator(np.random.PCG64(seed)).multinomial(total, cells / total, DRAWS).T.astype(np.float64)
    names = ["accuracy", "precision", "recall", "f1"]
    found: dict[str, Any] = {name: float(figure(cells, name)) for name in names}
    intervals = {name: _interval(figure(drawn, name)) for name in names}
    if goal.name == "cost":
        found["cost"], intervals["cost"] = float(cost(cells, goal)), _interval(cost(drawn, goal))
    return {**found, "intervals": intervals}


def _interval(values: NDArray[np.float64]) -> Sequence[float]:
    return [float(bound) for bound in np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]
