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
_SIGNIFICANT: Final = 3.0
"""Standard errors that a gain has to be. Each pair of rows of a group counts in both rows' rates, so that the gain of
chance varies by 1.4 times what is taken for its standard error, and hundreds of combinations are tried."""
_LEAST_GAIN: Final = 0.001  # of the squared error that is left: an input more costs time in each step
_NEW: Final = 1e-3  # of an input's length: below, it repeats the others
_LARGE: Final = 100  # codes of a column that is worth a rate of its own
_DENSE: Final = 500  # rows of a combination from which a network learns by itself


class CombinationJudge:
    """Says which columns and combinations of columns have rates that add something in folds they have not seen.

    A combination must add to what its columns say by themselves and to what better combinations say, a triple to what
    pairs say: each is judged by the squared error that it takes off a linear fit of the others' rates. All rates are of
    the label itself: those of what others have left would know a row's own label, since what is left in the other rows
    of its group has it taken off. One whose rows are many is left out at the end: the layers above form it themselves.
    A row here stands for ``stands_for`` of train.
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
        singles = [
            (candidate, gain)
            for candidate in [(column,) for column in columns if self._cardinalities[column] >= _LARGE]
            if (gain := self._gain(self._rates(candidate), self._targets)) is not None
        ]
        fit = _Fit(self._targets)
        for column in columns:
            fit.add(self._rates((column,)))
        pairs = self._best(list(combinations(columns, 2)), fit)
        paired = sorted({column for pair, _ in pairs for column in pair})
        # triples of columns that are in a good pair: of all columns there are too many
        triples = self._best(list(combinations(paired, 3))[:_JUDGED_TRIPLES], fit)
        sparse = [found for found in pairs + triples if self._rows_in_common(found[0]) < _DENSE]
        return (singles + sparse)[:limit]

    def _rows_in_common(self, columns: tuple[int, ...]) -> float:
        """Return how many rows of train share a row's combination of codes, in the mean over rows."""
        counts = np.bincount(self._place(columns))
        # each of a group's n rows counts its n: in the mean over rows that is their squares
        return float(np.square(counts * self._stands_for).sum() / (len(self._codes) * self._stands_for))

    def _best(self, candidates: Sequence[tuple[int, ...]], fit: _Fit) -> list[tuple[tuple[int, ...], float]]:
        """Return what adds to ``fit`` and to those before it, the best first; they are part of the fit then."""

        def gain_of(candidate: tuple[int, ...]) -> float | None:
            return self._gain(fit.step(self._rates(candidate)), fit.left)

        gains = {candidate: gain for candidate in candidates if (gain := gain_of(candidate)) is not None}
        found = []
        for candidate in sorted(gains, key=lambda candidate: -gains[candidate]):
            gain = gain_of(candidate)
            if gain is not None:
                found.append((candidate, gain))
                fit.add(self._rates(candidate))
        return found

    def _gain(self, step: np.ndarray, left: np.ndarray) -> float | None:
        """Return the share of the squared error of ``left`` that ``step`` takes off it, None where that is nothing."""
        before = np.square(left).sum(axis=1)
        gains = before - np.square(left - step).sum(axis=1)
        gain, error, total = float(gains.mean()), float(gains.std()) / len(gains) ** 0.5, float(before.mean())
        return round(gain / total, 4) if gain > max(_SIGNIFICANT * error, _LEAST_GAIN * total) else None

    def _rates(self, columns: tuple[int, ...]) -> np.ndarray:
        """Return ``(n, outputs)``: the smoothed mean of the targets in the rows of other folds with the same codes."""
        return held_out_rates(self._place(columns), self._targets, self._folds)

    def _place(self, columns: tuple[int, ...]) -> np.ndarray:
        """Return ``(n,)``: which combination of codes each row has, in any order."""
        if columns not in self._places:
            sizes = [self._cardinalities[column] for column in columns]
            # int32: half the memory for as long as they are kept
            self._places[columns] = distinct(combined(self._codes, columns, sizes))[1].astype(np.int32)
        return self._places[columns]


class _Fit:
    """Least squares of targets ``(n, outputs)`` by inputs that are added one after the other, each output by its own.

    ``left`` is what the inputs so far leave. Inputs are orthogonal to those before them (Gram-Schmidt), so that one
    more changes nothing in the others. Plain sums, and no BLAS: the choice must not hang on the number of threads.
    """

    def __init__(self, targets: np.ndarray) -> None:
        n, outputs = targets.shape
        # (outputs, inputs, n), float32: it may have a hundred of them
        self._basis = np.full((outputs, 1, n), n**-0.5, dtype=np.float32)
        self.left = targets - targets.mean(axis=0)

    def step(self, inputs: np.ndarray) -> np.ndarray:
        """Return ``(n, outputs)``: what the fit would gain by ``inputs`` ``(n, outputs)`` beside the others."""
        direction = self._direction(inputs)
        # a rate by which more is less is one that chance has made
        step: np.ndarray = direction * np.maximum((direction * self.left).sum(axis=0), 0.0)
        return step

    def add(self, inputs: np.ndarray) -> None:
        """Take inputs into the fit."""
        direction = self._direction(inputs)
        self.left = self.left - direction * (direction * self.left).sum(axis=0)
        self._basis = np.concatenate([self._basis, direction.T[:, np.newaxis].astype(np.float32)], axis=1)

    def _direction(self, inputs: np.ndarray) -> np.ndarray:
        """Return what is new in the inputs, of length 1; 0 where that is nothing but rounding."""
        found = np.zeros_like(inputs)
        for place, (basis, column) in enumerate(zip(self._basis, inputs.T, strict=True)):
            new = column.astype(np.float32)
            for _ in range(2):  # once leaves what rounding has left of the others
                new -= np.einsum("in,i->n", basis, np.einsum("in,n->i", basis, new))
            before, length = (float(np.sqrt(np.square(part, dtype=np.float64).sum())) for part in (column, new))
            if length > _NEW * before:
                found[:, place] = new / length
        return found
