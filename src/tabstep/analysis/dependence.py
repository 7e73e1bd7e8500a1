"""Partial dependence: the mean prediction when every row is given the same value of one column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tabstep.analysis.permutation import Predict
from tabstep.tables.column_types import is_number, to_text, value_type

GRID: Final = 20
_CATEGORIES: Final = 12


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """Mean probabilities of each class by the value of a column; a text is the value of a category, None is missing."""

    column: str
    values: tuple[float | str | None, ...]
    means: tuple[tuple[float, ...], ...]

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers."""
        return all(isinstance(value, float) for value in self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return {"column": self.column, "values": list(self.values), "means": [list(means) for means in self.means]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Dependence:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        return cls(column=data["column"], values=tuple(data["values"]), means=tuple(map(tuple, data["means"])))


def partial_dependence(
    predict: Predict, rows: pa.RecordBatch, column: str, *, numeric: bool, points: int = GRID
) -> Dependence:
    """Return the mean prediction over ``rows`` at values of a column (Friedman 2001, section 8.2).

    A numeric column is tried at ``points`` quantiles of its rows, any other at its most frequent values.
    """
    place = rows.schema.get_field_index(column)
    values = decoded(rows.column(place))
    grid = _quantiles(values.drop_null(), points) if numeric else _most_frequent(values)
    means = [
        predict(rows.set_column(place, column, pa.repeat(value, rows.num_rows))).mean(axis=0, dtype=np.float64)
        for value in grid
    ]
    return Dependence(
        column=column,
        values=tuple(_shown(value) for value in grid),
        means=tuple(tuple(float(mean) for mean in row) for row in means),
    )


def decoded(column: pa.Array) -> pa.Array:
    """Return a column without a dictionary or runs around its values."""
    while pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column


def _most_frequent(values: pa.Array) -> list[pa.Scalar]:
    counts = [(entry["counts"].as_py(), entry["values"]) for entry in pc.value_counts(values)]
    return [value for _, value in sorted(counts, key=lambda pair: -pair[0])[:_CATEGORIES]]


def _quantiles(present: pa.Array, points: int) -> list[pa.Scalar]:
    """Return values that rows have, at equal distances in their order, each once.

    Where most rows share a few values, at equal distances among the distinct ones.
    """
    ordered = present.take(pc.sort_indices(present))
    distinct = pc.unique(ordered)
    found = _spread(ordered, points)
    return list(found if 2 * len(found) >= min(points, len(distinct)) else _spread(distinct, points))


def _spread(ordered: pa.Array, points: int) -> pa.Array:
    if len(ordered) <= 1:
        return ordered
    places = np.linspace(0, len(ordered) - 1, points).round().astype(np.int64)
    return pc.unique(ordered.take(pa.array(places)))


def _shown(value: pa.Scalar) -> float | str | None:
    if not value.is_valid:
        return None
    if is_number(value_type(value.type)):
        return float(value.as_py())
    return str(to_text(pa.array([value.as_py()], value.type))[0].as_py())
