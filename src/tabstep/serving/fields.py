"""Rows of a request to the columns that the encoder was fitted on: by name, each of the kind that it had in training.

CSV has no types and JSON has few, so that the model's own schema decides what a text means: a date is written as
2026-01-31, an instant as 2026-01-31T12:00:00Z (UTC where no zone stands), a duration in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from tabstep.encoding.encoder import Encoder
from tabstep.serving.request_error import RequestError, missing_column, shown
from tabstep.serving.requests import Request
from tabstep.tables.column_types import PER_SECOND, ValueKind, value_kind, value_type

_NULLS: Final = pa.array(["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"])
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

_PLAIN_NUMBERS: Final = frozenset({int, float, type(None)})
_TEXTS: Final = frozenset({str, type(None)})
_IDS: Final = frozenset({str, int, float, bool})


@dataclass(frozen=True, kw_only=True)
class Field:
    """A feature column: what its values are, and their Arrow type in the table that the model was trained on."""

    name: str
    kind: ValueKind
    dtype: pa.DataType
    exact: bool
    """A category: 3 and 3.5 are names, not amounts."""


def model_fields(encoder: Encoder, golden: pa.Schema) -> tuple[Field, ...]:
    """Return the features in the order of a CSV without a header; ``golden`` holds raw columns as in training."""
    exact = set(encoder.schema.categorical)
    fields = []
    for name, kind in encoder.kinds.items():
        if kind == "nothing":  # no row had a value: nothing is known of its type
            kind = "text" if name in exact else "number"
        if name in dict(encoder.schema.parse):  # the encoder reads it
            kind = "text"
        dtype = value_type(golden.field(name).type)
        fields.append(Field(name=name, kind=kind, dtype=dtype, exact=name in exact))
    return tuple(fields)


def to_table(request: Request, fields: Sequence[Field], id_name: str | None) -> tuple[pa.Table, bool]:
    """Return the features, with the id where it was sent, and whether names were sent (False: a CSV without header).

    Raises:
        RequestError: a column is missing, or a value is not of its column's kind; row and value are named.
    """
    if request.table is None:
        table, named = _from_records(request.records, fields, id_name), True
    elif request.content_type != "text/csv":
        table, named = _select(request.table, fields, id_name), True
    else:
        table, named = _from_csv(request.table, request.header, fields, id_name)
    return table, named


def id_values(ids: pa.ChunkedArray, name: str) -> list[Any]:
    """Return the ids as an answer in JSON carries them back.

    Raises:
        RequestError: they are nested, bytes, no finite numbers, or times that Python has no names for.
    """
    if value_kind(ids.type) == "other":
        raise RequestError(f"column {name!r} has type {ids.type}: an id is a text, a number or a time")
    try:
        values: list[Any] = ids.to_pylist()
    except (ValueError, OverflowError, LookupError) as error:  # the year 300000, or a zone that nobody knows
        raise RequestError(f"column {name!r} cannot be read: {shown(str(error))}") from None
    if types.is_floating(value_type(ids.type)):
        for row, value in enumerate(values, start=1):
            if value is not None and not math.isfinite(value):
                raise RequestError(f"row {row}: column {name!r}: an id is due, got {value}")
    return values


def with_names(request: Request, names: Sequence[str]) -> Request:
    """Return a request with a line of names, where it is a piece of a CSV that has lost it; else the request itself.

    Args:
        names: the columns of the whole CSV in their order; none where it is not known to be cut up.

    Raises:
        RequestError: a row has another number of fields.
    """
    if not names or request.table is None or request.content_type != "text/csv":
        return request
    first = [column[0].as_py() for column in request.table.columns]
    if set(first) == set(names):
        return request
    if len(first) != len(names):
        raise RequestError(
            f"the first row has {len(first)} fields, and these columns are known: {shown(','.join(names))}"
        )
    line = pa.table({name: [text] for name, text in zip(request.table.column_names, names, strict=True)})
    return replace(request, table=pa.concat_tables([line, request.table]), header=True)


def _select(table: pa.Table, fields: Sequence[Field], id_name: str | None) -> pa.Table:
    names = [field.name for field in fields]
    for name in names:
        count = table.column_names.count(name)
        if not count:
            raise missing_column(name, table.column_names)
        if count > 1:
            raise RequestError(f"column {name!r} stands {count} times: send it once")
    if (count := table.column_names.count(id_name)) > 1:
        raise RequestError(f"column {id_name!r} stands {count} times: send it once")
    return table.select([id_name] * count + names)


def _from_csv(
    table: pa.Table, header: bool | None, fields: Sequence[Field], id_name: str | None
) -> tuple[pa.Table, bool]:
    names = [field.name for field in fields]
    first = [column[0].as_py() for column in table.columns]
    named = bool(set(first) & set(names)) if header is None else header
    if named:
        table = table.slice(1).rename_columns([name or "" for name in first])
    elif len(first) == len(names):
        table = table.rename_columns(names)
    else:
        raise RequestError(
            f"the first row names no column that the model knows, and it has {len(first)} fields where a CSV without a "
            f"header has these {len(names)}: {shown(','.join(names))}"
        )
    if not table.num_rows:
        raise RequestError("the body holds a header and no rows: send at least one")
    table = _select(table, fields, id_name)
    columns = _from_texts({field.name: _whole(table.column(field.name)) for field in fields}, fields)
    if id_name in table.column_names:
        columns = {str(id_name): table.column(id_name), **columns}
    return pa.table(columns), named


def _from_texts(arrays: dict[str, pa.Array], fields: Sequence[Field]) -> dict[str, pa.Array]:
    """Read each column of text; all plain numbers at once, since a call of Arrow takes longer than a row of them."""
    numbers = [field for field in fields if field.kind == "number" and not field.exact]
    together: dict[str, pa.Array] = {}
    if len(numbers) > 1:
        try:
            joined = _from_text(pa.concat_arrays([arrays[field.name] for field in numbers]), numbers[0])
            size = len(joined) // len(numbers)
            together = {field.name: joined.slice(place * size, size) for place, field in enumerate(numbers)}
        except RequestError:
            pass  # column by column, the message names the one and its row
    return {
        field.name: together[field.name] if field.name in together else _from_text(arrays[field.name], field)
        for field in fields
    }


def _whole(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _from_records(records: Sequence[dict[str, Any]], fields: Sequence[Field], id_name: str | None) -> pa.Table:
    for row, record in enumerate(records, start=1):
        for field in fields:
            if field.name not in record:
                raise missing_column(field.name, list(record), f"row {row}: ")
    columns = {field.name: _from_values([record[field.name] for record in records], field) for field in fields}
    if id_name is not None and all(id_name in record for record in records):
        columns = {id_name: _ids([record[id_name] for record in records], id_name), **columns}
    return pa.table(columns)


def _ids(values: Sequence[Any], name: str) -> pa.Array:
    """Return ids of one kind: 1 beside 1.5 would come back as 1.0, and an object with the keys of the others."""
    kinds: set[type] = set()
    for row, value in enumerate(values, start=1):
        kinds.update(() if value is None else (type(value),))
        if len(kinds) > 1 or not kinds <= _IDS:
            due = "a text or a number is due" if len(kinds) == 1 else "an id of another kind than the ones before"
            raise RequestError(f"row {row}: column {name!r}: {due}, got {shown(repr(value))}")
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise RequestError(f"column {name!r} cannot be read: {shown(str(error))}") from None


def _from_values(values: Sequence[Any], field: Field) -> pa.Array:
    found = set(map(type, values))
    if field.kind == "number" and not field.exact and found <= _PLAIN_NUMBERS:
        try:
            return pa.array(values, pa.float64())
        except (
            pa.ArrowException,
            OverflowError,
        ):  # an integer that no float64 holds: its text is read as the nearest one
            pass
    due = _PYTHON[field.kind] + ((str,) if types.is_decimal(field.dtype) else ())
    if not found <= {*due, type(None)}:
        _check_types(values, field, due)
    if field.kind == "boolean":
        return pa.array(values, pa.bool_())
    texts = values if found <= _TEXTS else [v if v is None or isinstance(v, str) else repr(v) for v in values]
    try:
        array = pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        raise RequestError(f"column {field.name!r} holds text that is not Unicode: {error.reason}") from None
    return array if field.kind == "text" else _from_text(array, field)


def _check_types(values: Sequence[Any], field: Field, due: tuple[type, ...]) -> None:
    for row, value in enumerate(values, start=1):
        if value is not None and (not isinstance(value, due) or (isinstance(value, bool) and bool not in due)):
            raise _refused(row, field, value)


def _from_text(array: pa.Array, field: Field) -> pa.Array:
    if field.kind == "text":
        return array
    array = pc.utf8_trim_whitespace(array)
    array = pc.if_else(pc.is_in(array, value_set=_NULLS), pa.scalar(None, pa.string()), array)
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
