"""Fits target statistics on a sample of train, and gives rows of train those of the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from tabstep.encoding.out_of_fold import FOLDS, OUTPUTS, of_other_folds, row_folds, sums_by_fold
from tabstep.encoding.sketch import RowSample
from tabstep.encoding.statistics_choice import CombinationJudge
from tabstep.encoding.target_statistics import TargetStatistic, combined, distinct, raw_inputs

# share of train that tells a row of train its rates
_OTHERS: Final = (FOLDS - 1) / FOLDS
_SAMPLE_ROWS: Final = 1_000_000
_SAMPLE_BYTES: Final = 128 * 2**20
# neither that of the folds nor that of the sample of numbers
_SAMPLE_SEED: Final = 2
_ALL_ENTRIES: Final = 600_000  # numbers in the JSON of an encoder
_JUDGED_ROWS: Final = 100_000
_JUDGED_TARGETS: Final = 200_000  # rows times outputs
_MAX_INPUTS: Final = 128


class CodeSample:
    """Codes and targets of a uniform sample of train's rows, on which statistics are fitted: of all, up to a million.

    Fewer where columns are many. A combination that is frequent in train is so in the sample, whatever the others are.
    """

    def __init__(self, *, num_columns: int, num_outputs: int, num_rows: int) -> None:
        width = num_columns + num_outputs + 1
        limit = max(1, min(_SAMPLE_ROWS, _SAMPLE_BYTES // (8 * width)))
        self._num_columns = num_columns
        self._sample = RowSample(num_columns=width, num_rows=num_rows, limit=limit, seed=_SAMPLE_SEED)

    def add(self, codes: np.ndarray, targets: np.ndarray, first_row: int) -> None:
        """Take ``codes`` ``(n, c)`` and ``targets`` ``(n, outputs)``; the first row is ``first_row`` of the table."""
        self._sample.add(np.column_stack([codes, targets, row_folds(first_row, len(codes))]).T, first_row)

    def join(self, other: CodeSample) -> None:
        """Take the sampled rows of another one, which follow these."""
        self._sample.append(other._sample.values)

    def mask(self, first_row: int, count: int) -> np.ndarray:
        """Return ``(count,)`` bool: whether the rows from ``first_row`` on belong to the sample."""
        return self._sample.mask(first_row, count)

    def fit(self, cardinalities: Sequence[int]) -> tuple[TargetStatistic, ...]:
        """Return the statistics that add something, the best first."""
        values = self._sample.values
        codes = values[: self._num_columns].T.astype(np.int64)
        targets, folds = values[self._num_columns : -1].T, values[-1].astype(np.int64)
        # of a larger sample, every n-th row is judged: many combinations are tried
        step = -(-len(codes) // min(_JUDGED_ROWS, _JUDGED_TARGETS // max(1, min(OUTPUTS, targets.shape[1]))))
        judge = CombinationJudge(codes[::step], targets[::step], folds[::step], cardinalities, stands_for=step)
        chosen = judge.chosen(_MAX_INPUTS // (targets.shape[1] + 1))
        entries = _ALL_ENTRIES // max(1, len(chosen) * (targets.shape[1] + 2))
        return tuple(
            _fit_one(codes, targets, folds, columns, cardinalities=cardinalities, gain=gain, entries=entries)
            for columns, gain in chosen
        )


class FoldSums:
    """The counts and sums of fitted statistics by fold, for the rows of train themselves.

    ``sample`` tells which rows the statistics were fitted on; the others took no part in any rate.
    """

    def __init__(self, statistics: Sequence[TargetStatistic], sample: CodeSample) -> None:
        self._statistics = statistics
        self._sample = sample
        self._sums = [np.zeros((len(s.sums) + 1, len(s.keys) + 1, FOLDS)) for s in statistics]

    def add(self, codes: np.ndarray, targets: np.ndarray, first_row: int) -> None:
        """Take the rows from ``first_row`` on."""
        mask = self._sample.mask(first_row, len(codes))
        codes, targets, folds = codes[mask], targets[mask], row_folds(first_row, len(mask))[mask]
        for statistic, sums in zip(self._statistics, self._sums, strict=True):
            sums += sums_by_fold(statistic.places(codes), sums.shape[1], targets, folds)

    def join(self, other: FoldSums) -> None:
        """Take what other rows have added: whole numbers, in any order."""
        for sums, others in zip(self._sums, other._sums, strict=True):
            sums += others

    def inputs(self, codes: np.ndarray, first_row: int) -> list[np.ndarray]:
        """Return ``(n, width)`` for each statistic, without what the fold of each row has told."""
        folds = row_folds(first_row, len(codes))
        result = []
        for statistic, sums in zip(self._statistics, self._sums, strict=True):
            place = statistic.places(codes)
            # a combination without a place has the prior, as in a prediction
            others = np.where(place < len(statistic.keys), of_other_folds(sums, place, folds), 0.0)
            result.append(statistic.scaled(others[0], others[1:].T, share=_OTHERS))
        return result


def _fit_one(
    codes: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
    columns: tuple[int, ...],
    *,
    cardinalities: Sequence[int],
    gain: float,
    entries: int,
) -> TargetStatistic:
    """Count one combination; of more than ``entries`` values, those of most rows are kept."""
    sizes = tuple(cardinalities[column] for column in columns)
    keys, place = distinct(combined(codes, columns, sizes))
    order = np.argsort(keys)
    # ascending, for they are searched; the argsort of an order is its inverse
    keys, place = keys[order], np.argsort(order)[place]
    by_fold = sums_by_fold(place, len(keys), targets, folds)
    totals = by_fold.sum(axis=2)
    kept = np.zeros(len(keys), dtype=bool)
    kept[np.argsort(-totals[0], kind="stable")[:entries]] = True
    # half a row of either outcome more: the logit of a rate of 0 or 1 is infinite
    priors = (targets.sum(axis=0) + 0.5) / (len(targets) + 1.0)
    # centers and scales are those of what rows of train get, from the other folds
    others = np.where(kept[place], of_other_folds(by_fold, place, folds), 0.0)
    raw = raw_inputs(others[0], others[1:].T, priors, _OTHERS)
    scales = raw.std(axis=0)
    return TargetStatistic(
        columns=columns,
        cardinalities=sizes,
        keys=tuple(keys[kept].tolist()),
        counts=tuple(totals[0, kept].astype(np.int64).tolist()),
        sums=tuple(tuple(row) for row in totals[1:, kept].astype(np.int64).tolist()),
        priors=tuple(priors.tolist()),
        centers=tuple(raw.mean(axis=0).round(4).tolist()),
        # an input that hardly varies is not blown up to a spread of 1
        scales=tuple(np.where(scales > 1e-3, scales, 1.0).round(4).tolist()),
        gain=gain,
    )
