"""Whether one column alone gives the label away."""

from __future__ import annotations

from typing import Final

import numpy as np

from tabstep.checks.profile import Sample
from tabstep.tables.ranking import auroc

THRESHOLD: Final = 0.999
_FEWEST: Final = 30  # rows of a class: with fewer, a perfect ranking may be luck
_MOST_CLASSES: Final = 10
_BINS: Final = 64


def leak_scores(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return the best one-against-rest AUROC of each numeric ``(n,)`` and each categorical column ``(c,)``.

    Over the classes of every label, the worst class counts: a leak tells all of them apart. A numeric column is scored
    by its ranks, either way round, and as categories of its quantiles; a categorical one by the share of the class
    among the same value in the other half of the sample. NaN where a class has too few rows to say.
    """
    numeric = np.full((sample.numeric.shape[1], len(sample.labels)), np.nan)
    categorical = np.full((sample.categorical.shape[1], len(sample.labels)), np.nan)
    for position, label in enumerate(sample.labels):
        classes = _classes(label)
        if len(classes) < 2:
            continue
        # the ranking of one class of two is that of the other, turned round
        two_cover_all = len(classes) == 2 and bool(np.isin(label, classes).all())
        targets = np.stack([label == value for value in classes[int(two_cover_all) :]], axis=1)
        for column in range(len(numeric)):
            values = sample.numeric[:, column]
            by_rank = min(_rank_score(values, target) for target in targets.T)
            numeric[column, position] = max(by_rank, _group_score(_quantile_bins(values), targets))
        for column in range(len(categorical)):
            codes = np.unique(sample.categorical[:, column], return_inverse=True)[1]
            categorical[column, position] = _group_score(codes, targets)
    return _largest(numeric), _largest(categorical)


def _classes(label: np.ndarray) -> np.ndarray:
    values, counts = np.unique(label, return_counts=True)
    values = values[np.argsort(-counts, kind="stable")]
    if counts.min() < _FEWEST and len(values) <= 2:
        return values[:0]
    kept: np.ndarray = values[np.sort(counts)[::-1] >= _FEWEST][:_MOST_CLASSES]
    return kept


def _largest(scores: np.ndarray) -> np.ndarray:
    largest: np.ndarray = np.where(np.isnan(scores), -np.inf, scores).max(axis=1, initial=-np.inf)
    return np.where(np.isinf(largest), np.nan, largest)


def _rank_score(values: np.ndarray, target: np.ndarray) -> float:
    # missing values may be what tells: they are tried as the lowest and as the highest
    scores = [auroc(np.nan_to_num(values, nan=missing), target) for missing in (-np.inf, np.inf)]
    return max(max(score, 1.0 - score) for score in scores)


def _quantile_bins(values: np.ndarray) -> np.ndarray:
    present = values[~np.isnan(values)]
    if not len(present):
        return np.zeros(len(values), dtype=np.int64)
    edges = np.unique(np.quantile(present, np.linspace(0, 1, _BINS + 1)[1:-1], method="lower"))
    bins = np.searchsorted(edges, values, side="left") + 1
    return np.where(np.isnan(values), 0, bins)


def _group_score(codes: np.ndarray, targets: np.ndarray) -> float:
    """Return the AUROC of the worst class when each half is scored by the other half's class shares per code."""
    first = np.arange(len(codes)) % 2 == 0
    width = int(codes.max()) + 1
    worst = np.inf
    for target in targets.T:
        score = np.empty(len(codes))
        for half in (first, ~first):
            total = np.bincount(codes[half], minlength=width)
            hits = np.bincount(codes[half], weights=target[half], minlength=width)
            prior = target[half].mean()
            # with one row of the prior: a value that the other half lacks says nothing
            score[~half] = ((hits + prior) / (total + 1.0))[codes[~half]]
        worst = min(worst, auroc(score, target))
    return worst
