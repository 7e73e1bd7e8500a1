"""Numeric columns of a table to numbers near a standard normal, many columns at once.

A call of Arrow or NumPy takes a microsecond or more whatever it is given, which for a few rows of many columns is all
the time there is. Columns that are read and scaled alike are therefore taken together, as far as their values stay in
the cache of a core; of many rows that is one column at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
import pyarrow as pa

from tabstep.encoding.numeric import NumericColumn, scale
from tabstep.tables.column_types import fits
from tabstep.tables.record_batch import numbers

_TOGETHER: Final = 65_536
"""Values that are taken together: half a MB as float64."""
_PLAIN: Final = frozenset(
    {
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float32(), pa.float64()),
    }
)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Columns that are read and scaled alike.

    ``fields`` are their positions in a batch, where they are of one plain type; none of a column that is read by
    itself. ``inputs`` are the columns of ``x_num`` that hold them, ``flags`` those that say whether a value is missing,
    of the columns at ``flagged`` in the group.
    """

    columns: tuple[NumericColumn, ...]
    fields: list[int]
    inputs: slice | list[int]
    flagged: slice | list[int]
    flags: slice | list[int]

    def read(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return ``(k, n)`` float64, each row as ``numbers`` does."""
        if not self.fields:
            (column,) = self.columns
            return numbers(batch, column.name, column.kind)[np.newaxis]
        tensor = batch.select(self.fields).to_tensor(null_to_nan=True, row_major=False)
        values: np.ndarray = tensor.to_numpy().T.astype(np.float64, copy=False)
        finite = np.isfinite(values)
        return values if finite.all() else np.where(finite, values, np.nan)


class NumericColumns:
    """The fitted numeric columns of a table, whose inputs come first, and then those of their indicators.

    >>> facts = dict(kind="number", scaling="standard", count=2, mean=0.0, std=1.0, minimum=-1.0, maximum=1.0)
    >>> fitted = [NumericColumn(name=name, indicator=flag, **facts) for name, flag in {"a": True, "b": False}.items()]
    >>> x_num = np.empty((2, 3), dtype=np.float32)
    >>> NumericColumns(fitted).encode(pa.record_batch({"b": [0.5, -0.5], "a": [1.0, None]}), x_num, keep=["b"])
    {'b': array([ 0.5, -0.5])}
    >>> x_num.tolist()
    [[1.0, 0.5, 0.0], [0.0, -0.5, 1.0]]
    """

    def __init__(self, columns: Sequence[NumericColumn]) -> None:
        self._columns = columns
        self._planned: tuple[pa.Schema, int, list[_Group]] | None = None

    def encode(self, batch: pa.RecordBatch, x_num: np.ndarray, *, keep: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Write the inputs into ``x_num`` and return the numbers of the columns ``keep``, as ``numbers`` does.

        Raises:
            UserError: as ``numbers``.
        """
        kept: dict[str, np.ndarray] = {}
        size = max(1, _TOGETHER // max(1, batch.num_rows))
        for group in self._groups(batch.schema, min(size, len(self._columns))):
            values = group.read(batch)
            x_num[:, group.inputs] = scale(group.columns, values).T
            if group.flags:
                x_num[:, group.flags] = np.isnan(values[group.flagged]).T
            kept.update(
                (column.name, row) for column, row in zip(group.columns, values, strict=True) if column.name in keep
            )
        return kept

    def _groups(self, schema: pa.Schema, size: int) -> list[_Group]:
        """Return groups of at most ``size`` columns; of batches of one schema they are made once."""
        planned = self._planned
        if planned is None or planned[1] != size or not planned[0].equals(schema):
            planned = self._planned = (schema, size, list(self._plan(schema, size)))
        return planned[2]

    def _plan(self, schema: pa.Schema, size: int) -> Iterator[_Group]:
        types, fields = schema.types, [schema.get_field_index(column.name) for column in self._columns]
        alike: dict[tuple[str, ...], list[int]] = {}
        for place, (column, field) in enumerate(zip(self._columns, fields, strict=True)):
            plain = field >= 0 and types[field] in _PLAIN and fits(column.kind, types[field])
            alike.setdefault((column.scaling, str(types[field])) if plain else (column.name,), []).append(place)
        first_flags = list(accumulate((column.indicator for column in self._columns), initial=len(self._columns)))
        for key, places in alike.items():
            plain = len(key) > 1
            for start in range(0, len(places), size):
                part = places[start : start + size]
                flagged = [row for row, place in enumerate(part) if self._columns[place].indicator]
                yield _Group(
                    columns=tuple(self._columns[place] for place in part),
                    fields=[fields[place] for place in part] if plain else [],
                    inputs=_span(part),
                    flagged=_span(flagged),
                    flags=_span([first_flags[part[row]] for row in flagged]),
                )


def _span(places: list[int]) -> slice | list[int]:
    """Return a slice where ascending places follow each other, which NumPy copies in half the time."""
    if places and places[-1] - places[0] == len(places) - 1:
        return slice(places[0], places[-1] + 1)
    return places
