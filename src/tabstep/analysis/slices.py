"""Where a model is worse than elsewhere: parts of a table by the value of a category or the quantile of a number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tabstep.analysis.dependence import decoded
from tabstep.analysis.weighted_scores import Interval, Z
from tabstep.schema import Schema
from tabstep.tables.column_types import to_float64, to_text

BINS: Final = 5
LEAST_ROWS: Final = 30
_CATEGORIES: Final = 50


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Rows that have something in common: their number, and the means of their losses and hits with 95 % intervals."""

    column: str
    value: str
    rows: int
    loss: Interval
    accuracy: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return {**vars(self), "loss": vars(self.loss), "accuracy": vars(self.accuracy)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Slice:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        return cls(**{**data, "loss": Interval(**data["loss"]), "accuracy": Interval(**data["accuracy"])})


def worst_slices(
    rows: pa.RecordBatch,
    schema: Schema,
    losses: NDArray[np.float64],
    hits: NDArray[np.float64],
    *,
    count: int = 12,
) -> list[Slice]:
    """Return the slices whose loss is most surely above the mean: by the lower bound of its interval.

    Args:
        losses: the loss of each row, ``(n,)``.
        hits: 1 where a row is classified rightly, ``(n,)``.
    """
    mean = float(losses.mean())
    found = []
    for column in schema.features:
        numeric = column in schema.numeric
        values = rows.column(rows.schema.get_field_index(column))
        for value, members in _quantile_bins(values) if numeric else _categories(values):
            size = int(members.sum())
            # what all rows have in common tells none from the others
            if LEAST_ROWS <= size < len(losses):
                found.append(
                    Slice(
                        column=column,
                        value=value,
                        rows=size,
                        loss=mean_interval(losses[members]),
                        accuracy=mean_interval(hits[members]),
                    )
                )
    worse = [part for part in found if part.loss.value > mean]
    return sorted(worse, key=lambda part: -part.loss.low)[:count]


def mean_interval(values: NDArray[np.float64]) -> Interval:
    """Return a mean with the normal interval of 95 %."""
    mean, spread = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
    half = Z * spread / math.sqrt(len(values))
    return Interval(value=mean, low=mean - half, high=mean + half)


def _categories(values: pa.Array) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    text = to_text(values)
    encoded = text.dictionary_encode(null_encoding="encode")
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    counts = np.bincount(codes, minlength=len(names))
    for code in np.argsort(-counts, kind="stable")[:_CATEGORIES]:
        yield "missing" if names[code] is None else str(names[code]), codes == code


def _quantile_bins(values: pa.Array) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    plain = decoded(values)
    numbers = to_float64(plain)
    known = np.isfinite(numbers)
    if not known.all():
        yield "missing", ~known
    if not known.any():
        return
    # edges that rows have, so that they can be shown as the table has them
    edges = np.unique(np.quantile(numbers[known], np.linspace(0.0, 1.0, BINS + 1), method="closest_observation"))
    if len(edges) == 1:
        yield f"= {_text(plain, numbers, edges[0])}", known
    for place, (low, high) in enumerate(pairwise(edges)):
        last = place == len(edges) - 2
        members = known & (numbers >= low) & ((numbers <= high) if last else (numbers < high))
        yield f"{_text(plain, numbers, low)} to {'' if last else 'below '}{_text(plain, numbers, high)}", members


def _text(plain: pa.Array, numbers: NDArray[np.float64], value: float) -> str:
    """Return a value as the table has it: a number in short, a day as a day."""
    scalar = plain[int(np.flatnonzero(numbers == value)[0])]
    if pa.types.is_temporal(plain.type):
        return str(pc.cast(scalar, pa.string()).as_py())
    return f"{value:.6g}"
