"""Which columns and combinations of columns get target statistics: those that add something in unseen folds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from tabstep.encoding.out_of_fold import centred, held_out_rates
from tabstep.encoding.target_statistics import combined, distinct

# 276 pairs of them
_JUDGED_COLUMNS: Final = 24
_JUDGED_TRIPLES: Final = 120
_SIGNIFICANT: Final = 2.0  # standard errors
_LEAST_GAIN: Final = 0.0003  # of the squared error that is left
_STEP: Final = 0.5  # of a combination's rates: the next one need not say all that it says once more
_LARGE: Final = 100  # codes of a column that is worth a rate of its own
_DENSE: Final = 500  # rows of a combination from which a network learns by itself


class CombinationJudge:
    """Says which columns and combinations of columns have rates that add something in folds they have not seen.

    A combination must add to what its columns say by themselves and to what better combinations say, a triple to what
    pairs say: each is judged by the squared error that its rates take off what the others have left. One whose rows
    are many is left out at the end: the layers above form it themselves. A row here stands for ``stands_for`` of train.
    """

    def __init__(
        self,
        codes: np.ndarray,
        targets: np.ndarray,
        folds: np.ndarray,
        cardinalities: Sequence[int],
        *,
        stands_for: int = 1,
    ) -> None:
        self._codes = codes
        self._folds = folds
        self._cardinalities = cardinalities
        self._targets = centred(targets)
        self._stands_for = stands_for
        self._places: dict[tuple[int, ...], np.ndarray] = {}  # each is asked for up to four times

    def chosen(self, limit: int) -> list[tuple[tuple[int, ...], float]]:
        """Return up to ``limit`` combinations with their gains: single columns, then pairs, then triples."""
        # of most codes: combinations of few values are what layers form by themselves
        columns = sorted(range(len(self._cardinalities)), key=lambda column: -self._cardinalities[column])
        columns = sorted(columns[:_JUDGED_COLUMNS])
        large = [(column,) for column in columns if self._cardinalities[column] >= _LARGE]
        singles = [
            (candidate, gain) for candidate in large if (gain := self._gain(candidate, self._targets)) is not None
        ]
        left = self._left_by_singles(columns)
        pairs, left = self._best(list(combinations(columns, 2)), left)
        paired = sorted({column for pair, _ in pairs for column in pair})
        # triples of columns that are in a good pair: of all columns there are too many
        triples, _ = self._best(list(combinations(paired, 3))[:_JUDGED_TRIPLES], left)
        sparse = [found for found in pairs + triples if self._rows_in_common(found[0]) < _DENSE]
        return (singles + sparse)[:limit]

    def _rows_in_common(self, columns: tuple[int, ...]) -> float:
        """Return how many rows of train share a row's combination of codes, in the mean over rows."""
        counts = np.bincount(self._place(columns))
        # each of a group's n rows counts its n: in the mean over rows that is their squares
        return float(np.square(counts * self._stands_for).sum() / (len(self._codes) * self._stands_for))

    def _best(
        self, candidates: Sequence[tuple[int, ...]], left: np.ndarray
    ) -> tuple[list[tuple[tuple[int, ...], float]], np.ndarray]:
        """Return what adds to ``left`` and to those before it, the best first, and what they leave."""
        gains = {candidate: gain for candidate in candidates if (gain := self._gain(candidate, left)) is not None}
        found = []
        for candidate in sorted(gains, key=lambda candidate: -gains[candidate]):
            gain = self._gain(candidate, left)
            if gain is not None:
                found.append((candidate, gain))
                left = left - _STEP * self._rates(candidate, left)
        return found, left

    def _gain(self, columns: tuple[int, ...], left: np.ndarray) -> float | None:
        """Return the share of the squared error that rates of ``left`` take off it, or None where that is nothing."""
        before = np.square(left).sum(axis=1)
        gains = before - np.square(left - self._rates(columns, left)).sum(axis=1)
        gain, error, total = float(gains.mean()), float(gains.std()) / len(gains) ** 0.5, float(before.mean())
        return round(gain / total, 4) if gain > max(_SIGNIFICANT * error, _LEAST_GAIN * total) else None

    def _rates(self, columns: tuple[int, ...], targets: np.ndarray) -> np.ndarray:
        """Return ``(n, outputs)``: the smoothed mean of ``targets`` in the rows of other folds with the same codes."""
        return held_out_rates(self._place(columns), targets, self._folds)

    def _place(self, columns: tuple[int, ...]) -> np.ndarray:
        """Return ``(n,)``: which combination of codes each row has, in any order."""
        if columns not in self._places:
            sizes = [self._cardinalities[column] for column in columns]
            # int32: half the memory for as long as they are kept
            self._places[columns] = distinct(combined(self._codes, columns, sizes))[1].astype(np.int32)
        return self._places[columns]

    def _left_by_singles(self, columns: Sequence[int]) -> np.ndarray:
        """Return what a linear fit of the rates of single columns leaves of the targets."""
        rates = [np.ones(len(self._targets)), *(self._rates((column,), self._targets) for column in columns)]
        basis = np.column_stack(rates)
        weights, *_ = np.linalg.lstsq(basis, self._targets, rcond=None)
        left: np.ndarray = self._targets - basis @ weights
        return left
