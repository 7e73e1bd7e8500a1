"""Columns of one Arrow record batch by name, as numbers or as text, with errors that name the column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa

from tabstep.errors import UserError, nearest
from tabstep.tables.column_types import ValueKind, fits, to_float64, to_text

# 32 MiB of float64
_CELLS: Final = 2**22
_CONVERSIONS: Final[dict[str, str]] = {
    "date": ", in pandas by pd.to_datetime(column).dt.date",
    "timestamp": ", in pandas by pd.to_datetime(column)",
}
T = TypeVar("T")


def bounded_rows(rows: int, columns: int) -> int:
    """Return how many of ``rows`` rows to hold at a time: fewer for very wide tables, whose cells count.

    >>> bounded_rows(65_536, 20), bounded_rows(65_536, 5_000)
    (65536, 838)
    """
    return max(1, min(rows, max(256, _CELLS // max(1, columns))))


def get_column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return the only column of that name; order and extra columns do not matter.

    Raises:
        UserError: no column, or more than one, has that name.
    """
    place = batch.schema.get_field_index(name)
    if place >= 0:
        return batch.column(place)
    if found := batch.schema.get_all_field_indices(name):
        raise UserError(f"column {name!r} stands {len(found)} times in the table: rename or drop the others")
    raise UserError(f"column {name!r} is missing: {nearest(name, batch.schema.names)}")


def numbers(batch: pa.RecordBatch, name: str, kind: ValueKind = "nothing") -> np.ndarray:
    """Return ``(n,)`` float64 where everything that is not a finite number is NaN.

    Raises:
        UserError: the column is missing, its type is no number, or its values are not of ``kind`` (the number of a day
            is not that of a second: another kind than the fitted one would silently be scaled like it). A column
            without any value may have any type.
    """
    column = get_column(batch, name)
    if column.null_count == len(column):
        return np.full(len(column), np.nan)
    _check_kind(column, name, kind)
    values = _convert(column, name, to_float64)
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


def texts(batch: pa.RecordBatch, name: str, kind: ValueKind = "nothing") -> pa.Array:
    """Return the canonical text of each value as a string array; missing is null.

    Raises:
        UserError: the column is missing, its type has no text, or its values are not of ``kind`` (the text of true is
            not that of 1: another kind than the fitted one would silently be unknown everywhere).
    """
    column = get_column(batch, name)
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    _check_kind(column, name, kind)
    return _convert(column, name, to_text)


def _check_kind(column: pa.Array, name: str, kind: ValueKind) -> None:
    if not fits(kind, column.type):
        how = _CONVERSIONS.get(kind, "")
        raise UserError(f"column {name!r} has type {column.type}, a {kind} is due as in train: convert it{how}")


def _convert(column: pa.Array, name: str, convert: Callable[[pa.Array], T]) -> T:
    try:
        return convert(column)
    except UserError as error:
        raise UserError(f"column {name!r}: {error}") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"column {name!r} of type {column.type} cannot be read: {str(error).splitlines()[0]}") from None
