"""Numeric columns scaled near a standard normal: the fitted facts of each, and the function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from tabstep.encoding.interpolation import Curve
from tabstep.encoding.out_of_fold import centred, row_folds
from tabstep.encoding.repeated_values import SpikeColumn, fit_spikes
from tabstep.encoding.sketch import BlockMoments, Moments, RowSample, runs
from tabstep.tables.column_types import ValueKind, value_kind
from tabstep.tables.record_batch import get_column, numbers

Scaling = Literal["quantile", "robust", "standard"]

# the rank of a quantile is then off by a thousandth of the rows
_SAMPLE_ROWS: Final = 200_000
_SAMPLE_BYTES: Final = 256 * 2**20
_MAX_KNOTS: Final = 1_000
_ALL_KNOTS: Final = 400_000  # over all columns: keeps the JSON of a table with 5,000 columns near 15 MB
MAX_STANDARD: Final = 10.0
# enough for the soft limit, and its square is finite: that of a huge value would turn it into 0
MAX_ROBUST: Final = 1e6
SOFT_LIMIT: Final = 3.0
# quartiles of a standard normal are so far apart
_IQR_OF_NORMAL: Final = 1.3489795003921634


@dataclass(frozen=True, kw_only=True)
class NumericColumn:
    """One numeric column as it was fitted.

    ``kind``: what its values are, so that a day is never taken for a second; "nothing" where train has none.
    ``indicator``: some, not all, of its values were missing in train, so that it has a second input that says so.
    ``knots`` and ``scores`` are those of quantile scaling, ``center`` and ``scale`` those of the other two.

    >>> fitted = NumericFit(["x"], scaling="quantile", num_rows=3, num_labels=1, seed=0)
    >>> fitted.add(pa.record_batch({"x": [1, 2, 300]}), np.zeros((3, 1)), 0)
    >>> fitted.finish()[0].apply(np.array([1.0, 2.0, 151.0, 9e9, np.nan])).round(2).tolist()
    [-0.97, 0.0, 0.48, 0.97, 0.0]
    """

    name: str
    kind: ValueKind
    scaling: Literal["constant", "quantile", "robust", "standard"]
    indicator: bool
    count: int
    mean: float
    std: float
    minimum: float
    maximum: float
    center: float = 0.0
    scale: float = 1.0
    knots: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Scale ``(n,)`` float64; NaN, which stands for missing, becomes 0, as does every value of a constant column.

        quantile: normal score of the rank in train, linear between the knots, never beyond train's extremes.
        robust: z = (x - median) / (IQR / 1.349), then z / sqrt(1 + (z / 3)^2). standard: (x - mean) / std within +-10.
        """
        scaled: np.ndarray = scale([self], values[np.newaxis])[0]
        return scaled

    @cached_property
    def curve(self) -> Curve:
        """The line through ``knots`` and ``scores``."""
        return Curve(np.array(self.knots), np.array(self.scores))

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NumericColumn:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        return cls(**{**data, "knots": tuple(data["knots"]), "scores": tuple(data["scores"])})


def scale(columns: Sequence[NumericColumn], values: np.ndarray) -> np.ndarray:
    """Return ``NumericColumn.apply`` of columns that are all scaled in one way: ``(k, n)`` of ``(k, n)``."""
    scaling = columns[0].scaling
    if scaling == "constant":
        return np.zeros_like(values)
    if scaling == "quantile":
        scaled = np.empty_like(values)
        for row, column in enumerate(columns):
            scaled[row] = column.curve.unbounded(values[row])
        low, high = (np.array([[column.scores[end]] for column in columns]) for end in (0, -1))
    else:
        center, spread = (np.array([[getattr(column, name)] for column in columns]) for name in ("center", "scale"))
        with np.errstate(over="ignore"):
            scaled = (values - center) / spread
        high = np.array(MAX_ROBUST if scaling == "robust" else MAX_STANDARD)
        low = -high
    scaled = scaled.clip(low, high, out=scaled)
    if scaling == "robust":
        scaled = scaled / np.sqrt(1.0 + (scaled / SOFT_LIMIT) ** 2)
    scaled[np.isnan(scaled)] = 0.0
    return scaled


@dataclass(frozen=True, kw_only=True)
class NumericPart:
    """One batch: its moments, and of the rows that are sampled (``rows``, ``(n,)`` bool) the values and the folds."""

    kinds: list[ValueKind]
    moments: BlockMoments
    rows: np.ndarray
    sampled: np.ndarray
    folds: np.ndarray


class NumericFit:
    """Collects what the scaling of ``names`` needs, batch by batch; memory does not grow with the rows."""

    def __init__(self, names: Sequence[str], *, scaling: Scaling, num_rows: int, num_labels: int, seed: int) -> None:
        self._names = names
        self._kinds: list[ValueKind] = ["nothing"] * len(names)
        self._scaling = scaling
        self._moments = Moments(len(names))
        # one column more for the fold of each row
        width = len(names) + num_labels + 1
        limit = max(1, min(_SAMPLE_ROWS, _SAMPLE_BYTES // (8 * width)))
        self._sample = RowSample(num_columns=width, num_rows=num_rows, limit=limit, seed=seed)
        self._max_knots = max(16, min(_MAX_KNOTS, _ALL_KNOTS // max(1, len(names))))

    def add(self, batch: pa.RecordBatch, labels: np.ndarray, first_row: int) -> None:
        """Take the rows of ``batch`` and their labels ``(n, k)``; the first one is row ``first_row`` of the table."""
        self.merge(self.part(batch, first_row), labels)

    def part(self, batch: pa.RecordBatch, first_row: int) -> NumericPart | None:
        """Return what ``merge`` takes of ``batch``; changes nothing, so that threads may call it."""
        if not self._names:
            return None
        # a row for each column, whose values are then contiguous
        block = np.empty((len(self._names), batch.num_rows))
        for index, name in enumerate(self._names):
            block[index] = numbers(batch, name)
        rows = self._sample.mask(first_row, batch.num_rows)
        return NumericPart(
            kinds=[value_kind(get_column(batch, name).type) for name in self._names],
            moments=BlockMoments.of(block),
            rows=rows,
            # a view where all are taken
            sampled=block if rows.all() else block[:, rows],
            folds=row_folds(first_row, batch.num_rows)[rows],
        )

    def merge(self, part: NumericPart | None, labels: np.ndarray) -> None:
        """Take the next batch and its labels ``(n, k)``."""
        if part is None:
            return
        self._kinds = part.kinds
        self._moments.merge(part.moments)
        self._sample.append(np.concatenate([part.sampled, labels[part.rows].T, part.folds[None]]))

    def join(self, other: NumericFit, labels: np.ndarray) -> None:
        """Take the rows of another fit, which follow these; ``labels`` ``(n, k)`` are those of its sample."""
        if not self._names:
            return
        self._kinds = other._kinds
        self._moments.join(other._moments)
        sampled = other._sample.values
        self._sample.append(np.concatenate([sampled[: len(self._names)], labels.T, sampled[-1:]]))

    @property
    def sampled_labels(self) -> np.ndarray:
        """The labels of the sampled rows, ``(n, k)``."""
        labels: np.ndarray = self._sample.values[len(self._names) : -1].T
        return labels

    def spikes(self, targets: Callable[[np.ndarray], np.ndarray]) -> tuple[SpikeColumn, ...]:
        """Return the columns whose values become codes as well; ``targets`` turns labels ``(n, k)`` into outputs."""
        if not self._names:
            return ()
        sampled = self._sample.values
        outputs = centred(targets(self.sampled_labels))
        folds = sampled[-1].astype(np.int64)
        found = (fit_spikes(name, sampled[index], outputs, folds) for index, name in enumerate(self._names))
        return tuple(column for column in found if column is not None)

    def finish(self) -> tuple[NumericColumn, ...]:
        """Return the fitted columns."""
        return tuple(self._column(index) for index in range(len(self._names)))

    def _column(self, index: int) -> NumericColumn:
        moments = self._moments
        count, low, high = int(moments.count[index]), float(moments.minimum[index]), float(moments.maximum[index])
        if not count:
            low = high = 0.0
        # halves first: the sum of two values near the limit of float64 is infinite
        mean = _finite(float(moments.mean[index]), low / 2 + high / 2)
        std = _finite(float(moments.std[index]), high / 2 - low / 2)
        facts = NumericColumn(
            name=self._names[index],
            kind=self._kinds[index],
            scaling="constant",
            indicator=0 < count < moments.rows,
            count=count,
            # rounding may carry a mean out of the range
            mean=min(max(mean, low), high),
            std=std,
            minimum=low,
            maximum=high,
        )
        return facts if low == high else self._scaled(facts, self._sample.column(index))

    def _scaled(self, facts: NumericColumn, sample: np.ndarray) -> NumericColumn:
        spread = _positive(facts.std, facts.maximum - facts.minimum)
        changes: dict[str, Any] = {"center": facts.mean, "scale": spread}
        if self._scaling == "quantile":
            knots, scores = normal_scores(sample, facts, self._max_knots)
            changes = {"knots": tuple(knots.tolist()), "scores": tuple(scores)}
        elif self._scaling == "robust" and sample.size:
            first, median, third = (float(value) for value in np.quantile(sample, (0.25, 0.5, 0.75)))
            changes = {"center": median, "scale": _positive((third - first) / _IQR_OF_NORMAL, spread)}
        return replace(facts, scaling=self._scaling, **changes)


def normal_scores(sample: np.ndarray, facts: NumericColumn, max_knots: int) -> tuple[np.ndarray, list[float]]:
    """Return distinct values of the ascending ``sample`` and the normal score of the middle rank of each.

    The score of rank r (from 0) of m is the normal quantile of (r + 1/2) / m (Hazen), so that it is finite at the
    extremes; six decimals of it are kept. Where ``sample`` is a part of the column, the column's extremes are added.
    """
    size = sample.size
    knots, _ = runs(sample)
    if knots.size > max_knots:
        # at evenly spaced ranks: many knots where there are many values
        knots, _ = runs(sample[np.rint(np.linspace(0, size - 1, max_knots)).astype(np.int64)])
    # half-way between the first and the last rank of equal values, which adds Hazen's half as well
    ranks = (np.searchsorted(sample, knots, "left") + np.searchsorted(sample, knots, "right")) / 2
    shares = (ranks / max(1, size)).tolist()
    # Hazen's share of the first of all rows, where the sample has missed it
    edge = 0.5 / facts.count
    if not size or facts.minimum < knots[0]:
        knots, shares = np.concatenate([[facts.minimum], knots]), [edge, *shares]
    if facts.maximum > knots[-1]:
        knots, shares = np.concatenate([knots, [facts.maximum]]), [*shares, 1 - edge]
    normal = NormalDist()
    return knots, [round(normal.inv_cdf(share), 6) for share in shares]


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _positive(*candidates: float) -> float:
    """Return the first finite candidate above 0 (a spread may under- or overflow), else 1."""
    return next((value for value in candidates if 0 < value < math.inf), 1.0)
