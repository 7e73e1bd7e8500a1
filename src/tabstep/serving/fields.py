"""What each column of the model takes, and how a text or a value of JSON is read as that.

CSV has no types and JSON has few, so that the model's own schema decides what a text means: a date is written as
2026-01-31, an instant as 2026-01-31T12:00:00Z (UTC where no zone stands), a duration in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from tabstep.encoding.encoder import Encoder
from tabstep.serving.request_error import RequestError, shown
from tabstep.tables.column_types import PER_SECOND, ValueKind, value_type
from tabstep.tables.missing_words import without_words

_ZONE: Final = r"[0-9](Z|[+-][0-9]{2}:?[0-9]{2})$"
_DUE: Final[dict[ValueKind, str]] = {
    "text": "text",
    "number": "a number",
    "boolean": "true or false",
    "date": "a date such as 2026-01-31",
    "timestamp": "a time such as 2026-01-31T12:00:00",
    "zoned timestamp": "a time such as 2026-01-31T12:00:00Z",
    "time": "a time of day such as 12:30:00",
    "duration": "a number of seconds",
}
_PYTHON: Final[dict[ValueKind, tuple[type, ...]]] = {
    "text": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "date": (str,),
    "timestamp": (str,),
    "zoned timestamp": (str,),
    "time": (str,),
    "duration": (int, float),
}

_TEXTS: Final[frozenset[type]] = frozenset({str, type(None)})
_WRITTEN: Final[dict[ValueKind, tuple[frozenset[type], pa.DataType]]] = {
    "number": (frozenset({int, float, type(None)}), pa.float64()),
    "text": (_TEXTS, pa.string()),
    "boolean": (frozenset({bool, type(None)}), pa.bool_()),
}
"""The types as which JSON writes a kind, and the array that holds them."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A feature column: what its values are, and their Arrow type in the table that the model was trained on."""

    name: str
    kind: ValueKind
    dtype: pa.DataType
    exact: bool
    """A category: 3 and 3.5 are names, not amounts."""
    parsed: bool = False
    """Text that the encoder reads as numbers, which JSON may hold as such."""


def model_fields(encoder: Encoder, golden: pa.Schema) -> tuple[Field, ...]:
    """Return the features in the order of a CSV without a header; ``golden`` holds raw columns as in training."""
    exact = set(encoder.schema.categorical)
    fields = []
    for name, kind in encoder.kinds.items():
        if kind == "nothing":  # no row had a value: nothing is known of its type
            kind = "text" if name in exact else "number"
        parsed = kind == "number" and name in dict(encoder.schema.parse)
        if name in dict(encoder.schema.parse):  # the encoder reads it
            kind = "text"
        dtype = value_type(golden.field(name).type)
        fields.append(Field(name=name, kind=kind, dtype=dtype, exact=name in exact, parsed=parsed))
    return tuple(fields)


def arrays_of(columns: Sequence[Sequence[Any]], fields: Sequence[Field]) -> list[pa.Array]:
    """Return columns of JSON values as their fields say.

    Those of one kind are read together, if they can be: a call of Arrow takes longer than a row of them.

    Raises:
        RequestError: a value is not of its column's kind; the first such column and its first such row are named.
    """
    found: dict[int, pa.Array] = {}
    for kind in _WRITTEN:
        places = [place for place, field in enumerate(fields) if _is_written_as(kind, field)]
        joined = _as_written(list(chain.from_iterable(columns[place] for place in places)), kind)
        if joined is not None:
            found.update(zip(places, apart(joined, len(places)), strict=True))
    return [
        found[place] if place in found else _from_values(values, field)
        for place, (values, field) in enumerate(zip(columns, fields, strict=True))
    ]


def apart(joined: pa.Array, count: int) -> list[pa.Array]:
    """Return the ``count`` columns of one length that were joined."""
    size = len(joined) // max(1, count)
    return [joined.slice(place * size, size) for place in range(count)]


def _is_written_as(kind: ValueKind, field: Field) -> bool:
    """Tell whether the values of a column are what JSON writes as this kind; a number that is a name has its text."""
    return field.kind == kind and not (kind == "number" and field.exact)


def _as_written(values: Sequence[Any], kind: ValueKind) -> pa.Array | None:
    """Return values that all have a type that JSON writes this kind as; None where one has not, or cannot be held."""
    given, dtype = _WRITTEN[kind]
    if not set(map(type, values)) <= given:
        return None
    try:
        return pa.array(values, dtype)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None


def _from_values(values: Sequence[Any], field: Field) -> pa.Array:
    if _is_written_as("number", field):
        numbers = _as_written(values, "number")
        if numbers is not None:  # else an integer that no float64 holds: its text is read as the nearest one
            return numbers
    given = set(map(type, values))
    if field.parsed and (amounts := _as_written(values, "number")) is not None:
        return amounts
    due = _PYTHON[field.kind] + ((str,) if types.is_decimal(field.dtype) else ())
    if not given <= {*due, type(None)}:
        _check_types(values, field, due)
    if field.kind == "boolean":
        return pa.array(values, pa.bool_())
    texts = values if given <= _TEXTS else [v if v is None or isinstance(v, str) else repr(v) for v in values]
    try:
        array = pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        raise RequestError(f"column {field.name!r} holds text that is not Unicode: {error.reason}") from None
    return array if field.kind == "text" else from_text(array, field)


def _check_types(values: Sequence[Any], field: Field, due: tuple[type, ...]) -> None:
    for row, value in enumerate(values, start=1):
        if value is not None and (not isinstance(value, due) or (isinstance(value, bool) and bool not in due)):
            raise _refused(row, field, value)


def from_text(array: pa.Array, field: Field) -> pa.Array:
    """Return one column of text as its field says.

    Raises:
        RequestError: a text is not of the column's kind; the first such row is named.
    """
    if field.kind == "text":
        return array
    array = without_words(array)
    failed: pa.ArrowException | None = None
    for convert in _conversions(field):
        try:
            return convert(array)
        except pa.ArrowException as error:
            failed = error
            last = convert
    assert failed is not None
    row = _first_failing(array, last)
    raise _refused(row + 1, field, array[row].as_py())


def _conversions(field: Field) -> list[Callable[[pa.Array], pa.Array]]:
    """Return the ways to read a text, best first; a later one reads all that an earlier one reads."""
    if field.kind == "boolean":
        return [lambda array: pc.cast(array, pa.bool_())]
    if field.kind in _TIMES:
        return [lambda array: _TIMES[field.kind](array, "us"), lambda array: _TIMES[field.kind](array, "ns")]
    if field.kind == "duration":
        units = ("us",) if field.exact else ("ns", "us", "ms")
        return [partial(_seconds, unit=unit) for unit in units]
    if field.exact and types.is_decimal(field.dtype):
        return [lambda array: pc.cast(array, field.dtype)]
    if field.exact and types.is_floating(field.dtype):  # 0.1 as a float32 and as a double are other categories
        return [lambda array: pc.cast(array, field.dtype)]
    if field.exact:
        whole = field.dtype if types.is_integer(field.dtype) else pa.int64()
        return [lambda array: pc.cast(array, whole), _floats]
    return [_floats]


def _floats(array: pa.Array) -> pa.Array:
    return pc.cast(array, pa.float64())


def _seconds(array: pa.Array, unit: str) -> pa.Array:
    return pc.cast(pc.cast(pc.round(pc.multiply(_floats(array), PER_SECOND[unit])), pa.int64()), pa.duration(unit))


def _dates(array: pa.Array, unit: str) -> pa.Array:
    return pc.cast(array, pa.date32())


def _times_of_day(array: pa.Array, unit: str) -> pa.Array:
    array = pc.binary_join_element_wise(pa.scalar("1970-01-01"), array, " ")
    return pc.cast(pc.cast(array, pa.timestamp(unit)), pa.time64(unit))


def _timestamps(array: pa.Array, unit: str) -> pa.Array:
    """Read times with and without a zone, which is UTC where none stands."""
    null = pa.scalar(None, pa.string())
    zoned = pc.match_substring_regex(array, _ZONE)
    if not zoned.true_count:
        return pc.cast(array, pa.timestamp(unit))
    if zoned.true_count == len(array) - array.null_count:
        return pc.cast(pc.cast(array, pa.timestamp(unit, tz="UTC")), pa.timestamp(unit))
    plain = pc.cast(pc.if_else(zoned, null, array), pa.timestamp(unit))
    instants = pc.cast(pc.if_else(zoned, array, null), pa.timestamp(unit, tz="UTC"))
    return pc.coalesce(plain, pc.cast(instants, pa.timestamp(unit)))


_TIMES: Final[dict[ValueKind, Callable[[pa.Array, str], pa.Array]]] = {
    "date": _dates,
    "time": _times_of_day,
    "timestamp": _timestamps,
    "zoned timestamp": lambda array, unit: pc.cast(_timestamps(array, unit), pa.timestamp(unit, tz="UTC")),
}


def _first_failing(array: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> int:
    """Return the first row that cannot be converted, by halving."""
    start, length = 0, len(array)
    while length > 1:
        half = length // 2
        try:
            convert(array.slice(start, half))
        except pa.ArrowException:
            length = half
        else:
            start, length = start + half, length - half
    return start


def _refused(row: int, field: Field, value: Any) -> RequestError:
    return RequestError(f"row {row}: column {field.name!r}: {_DUE[field.kind]} is due, got {shown(repr(value))}")
