"""Permutation importance: how much a score falls when the values of one column change places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Predict = Callable[[pa.RecordBatch], NDArray[np.floating]]
"""Raw rows to probabilities ``(n, classes)``."""
Score = Callable[[NDArray[np.floating]], float]
"""Probabilities of the rows to a score; larger is better."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What a column is worth: the mean fall of the score over some permutations, and their standard deviation."""

    column: str
    mean: float
    std: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return vars(self)


def permutation_importance(
    predict: Predict,
    rows: pa.RecordBatch,
    score: Score,
    columns: Sequence[str],
    *,
    repeats: int = 5,
    seed: int = 0,
    more: Callable[[], bool] = lambda: True,
) -> list[Importance]:
    """Return the importance of columns, the largest first (Breiman, "Random Forests", 2001, section 10).

    A column that another one stands in for looks less important than it is.

    Args:
        more: asked before each column; when it says no, the columns that are left are not looked at.
    """
    full = score(predict(rows))
    count = rows.num_rows
    # all repetitions of a column are predicted in one call
    tiled = rows.take(pa.array(np.tile(np.arange(count), repeats)))
    found = []
    for place, name in enumerate(columns):
        if not more():
            break
        draws = np.random.default_rng([seed, place])
        order = np.concatenate([draws.permutation(count) for _ in range(repeats)])
        probs = predict(_reordered(tiled, rows, name, order))
        falls = [full - score(probs[start : start + count]) for start in range(0, repeats * count, count)]
        found.append(Importance(column=name, mean=float(np.mean(falls)), std=float(np.std(falls))))
    return sorted(found, key=lambda importance: -importance.mean)


def _reordered(tiled: pa.RecordBatch, rows: pa.RecordBatch, name: str, order: NDArray[np.int64]) -> pa.RecordBatch:
    place = rows.schema.get_field_index(name)
    return tiled.set_column(place, rows.schema.field(place), rows.column(place).take(pa.array(order)))
