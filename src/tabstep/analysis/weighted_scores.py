"""The scores of a run as functions of row weights: a resample is a vector of counts, and no row is copied."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tabstep.schema import Task

SCORES: Final = ("auroc", "average_precision", "log_loss", "accuracy", "f1")
Floats = NDArray[np.float64]
_EPSILON: Final = float(np.finfo(np.float32).eps)
_CELLS: Final = 4_000_000
Z: Final = 1.959963984540054
"""Standard normal quantile of a two-sided interval of 95 %."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score, and the bounds that hold the score of the whole population in 95 of 100 such samples."""

    value: float
    low: float
    high: float


def scores(probs: NDArray[np.floating], y: NDArray[Any], task: Task, weights: Floats) -> dict[str, Floats]:
    """Return each of ``SCORES`` under each row of ``weights`` ``(b, n)``, as ``(b,)``.

    Args:
        probs: ``(n, classes)``, binary with both columns.
        y: class codes ``(n,)``, or flags ``(n, classes)`` of a multilabel task.
    """
    truth = indicators(y, task, probs.shape[1])
    columns = probs[:, 1:] if task == "binary" else probs
    ranks = [_areas(columns[:, place], truth[:, place], weights) for place in range(columns.shape[1])]
    found = {
        "auroc": _mean([area for area, _ in ranks]),
        "average_precision": _mean([area for _, area in ranks]),
    }
    return found | _counted(probs, truth, task, weights)


def score(metric: str, probs: NDArray[np.floating], y: NDArray[Any], task: Task) -> float:
    """Return one of ``SCORES`` of unweighted rows; a loss is negated, so that larger is better."""
    found = float(scores(probs, y, task, np.ones((1, len(y))))[metric][0])
    return -found if metric.endswith("loss") else found


def intervals(
    probs: NDArray[np.floating], y: NDArray[Any], task: Task, *, repeats: int = 200, seed: int = 0, rows: int = 20_000
) -> Mapping[str, Interval]:
    """Return the scores with bootstrap intervals (percentiles of resampled rows, Efron and Tibshirani 1993, ch. 13).

    Of more than ``rows`` rows a sample is resampled, and what it deviates by is scaled to the number of rows.
    """
    size = _fewer(rows, probs.shape[1], task)
    return _bootstrap(lambda part, weights: scores(probs[part], y[part], task, weights), len(y), repeats, seed, size)


def differences(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    y: NDArray[Any],
    task: Task,
    *,
    repeats: int = 200,
    seed: int = 0,
    rows: int = 20_000,
) -> Mapping[str, Interval]:
    """Return by how much the scores of the second of two predictions of the same rows are above those of the first.

    The intervals are of a paired bootstrap: both are scored on the same drawn rows, so that what makes a sample
    easy or hard for both of them falls out.
    """

    def difference(part: NDArray[np.int64], weights: Floats) -> dict[str, Floats]:
        left, right = (scores(probs[part], y[part], task, weights) for probs in (first, second))
        return {name: right[name] - left[name] for name in SCORES}

    return _bootstrap(difference, len(y), repeats, seed, _fewer(rows, first.shape[1], task))


def _fewer(rows: int, classes: int, task: Task) -> int:
    # each class is ranked by itself, so that many classes have fewer rows
    return max(2_000, rows // classes if task != "binary" else rows)


def _bootstrap(
    figures: Callable[[NDArray[np.int64], Floats], dict[str, Floats]], total: int, repeats: int, seed: int, rows: int
) -> dict[str, Interval]:
    """Return intervals of what ``figures`` gives for some rows under weights ``(b, n)``; of at most ``rows`` rows."""
    whole = np.arange(total)
    everything = figures(whole, np.ones((1, total)))
    draws = np.random.default_rng(seed)
    size = min(total, rows)
    part = np.sort(draws.choice(total, size, replace=False)) if size < total else whole
    middle = figures(part, np.ones((1, size)))
    step = max(1, _CELLS // size)
    drawn = [figures(part, _resampled(draws, min(step, repeats - start), size)) for start in range(0, repeats, step)]
    # a sample's score deviates by more than that of all rows, by the root of their ratio
    shrink = math.sqrt(size / total)
    found = {}
    for name in SCORES:
        value, center = float(everything[name][0]), float(middle[name][0])
        low, high = _percentiles(np.concatenate([one[name] for one in drawn]))
        found[name] = Interval(value=value, low=value + (low - center) * shrink, high=value + (high - center) * shrink)
    return found


def _percentiles(values: Floats) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _resampled(draws: np.random.Generator, repeats: int, rows: int) -> Floats:
    """Return how often each row is drawn, ``(repeats, rows)``."""
    return np.stack(
        [np.bincount(draws.integers(0, rows, rows), minlength=rows).astype(np.float64) for _ in range(repeats)]
    )


def indicators(y: NDArray[Any], task: Task, num_classes: int) -> NDArray[np.bool_]:
    """Return whether a row has each class, ``(n, outputs)``; binary has one output."""
    if task == "multilabel":
        return np.asarray(y > 0)
    if task == "binary":
        return np.asarray(y[:, None] > 0)
    return np.asarray(y[:, None] == np.arange(num_classes))


def _areas(ranking: NDArray[np.floating], truth: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Return AUROC (ties count one half) and average precision of one output; nan where a class has no weight."""
    order = np.argsort(-ranking, kind="stable")
    ranked, hits = ranking[order], truth[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
    heavy = weights[:, order]
    tp, fp = np.cumsum(heavy * hits, axis=1)[:, last], np.cumsum(heavy * ~hits, axis=1)[:, last]
    positives, negatives = np.diff(tp, prepend=0.0), np.diff(fp, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # as in training.metrics.areas: positives above each negative, and half of those beside it
        auroc = (negatives * (tp - 0.5 * positives)).sum(axis=1) / (tp[:, -1] * fp[:, -1])
        precision = np.where(tp + fp > 0, tp / (tp + fp), 0.0)
        average = (positives * precision).sum(axis=1) / tp[:, -1]
    known = (tp[:, -1] > 0) & (fp[:, -1] > 0)
    return np.where(known, auroc, np.nan), np.where(known, average, np.nan)


def _counted(probs: NDArray[np.floating], truth: NDArray[np.bool_], task: Task, weights: Floats) -> dict[str, Floats]:
    chosen = decided(probs, task)
    losses, right = row_losses(probs, truth, task), row_hits(probs, truth, task)
    total = weights.sum(axis=1)
    seen = weights @ truth + weights @ chosen
    with np.errstate(invalid="ignore"):
        f1 = 2.0 * (weights @ (truth & chosen)) / seen
    return {
        "log_loss": weights @ losses / total,
        "accuracy": weights @ right / total,
        "f1": _mean(list(f1.T)),
    }


def decided(probs: NDArray[np.floating], task: Task) -> NDArray[np.bool_]:
    """Return whether each output is predicted, ``(n, outputs)``: an exact half is a negative."""
    if task == "multiclass":
        return np.asarray(probs.argmax(axis=1)[:, None] == np.arange(probs.shape[1]))
    return np.asarray((probs[:, 1:] if task == "binary" else probs) > 0.5)


def row_losses(probs: NDArray[np.floating], truth: NDArray[np.bool_], task: Task) -> Floats:
    """Return the log-loss of each row ``(n,)``, a mean over the labels of a multilabel task."""
    known = np.clip(probs.astype(np.float64), _EPSILON, 1.0 - _EPSILON)
    if task == "multiclass":
        return np.asarray(-np.log((known * truth).sum(axis=1)))
    known = known[:, 1:] if task == "binary" else known
    return np.asarray(-np.log(np.where(truth, known, 1.0 - known)).mean(axis=1))


def row_hits(probs: NDArray[np.floating], truth: NDArray[np.bool_], task: Task) -> Floats:
    """Return the accuracy of each row ``(n,)``, a mean over the labels of a multilabel task."""
    right = decided(probs, task) == truth
    return np.asarray(right.all(axis=1) if task == "multiclass" else right.mean(axis=1), dtype=np.float64)


def _mean(columns: list[Floats]) -> Floats:
    """Return the mean over outputs of those that are known; nan where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean of nothing, which is nan
        return np.asarray(np.nanmean(np.stack(columns), axis=0))
