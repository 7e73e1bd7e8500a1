"""The features of a model out of the rows of a request: found by name, each of its kind, in the encoder's order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
from pyarrow import types

from tabstep.serving.fields import Field, apart, arrays_of, from_text
from tabstep.serving.request_error import RequestError, missing_column, shown
from tabstep.serving.request_rows import Request
from tabstep.tables.column_types import value_kind, value_type

_IDS: Final = frozenset({str, int, float, bool})


def to_table(request: Request, fields: Sequence[Field], id_name: str | None) -> tuple[pa.Table, bool]:
    """Return the features, with the id where it was sent, and whether names were sent (False: a CSV without header).

    Raises:
        RequestError: a column is missing, or a value is not of its column's kind; row and value are named.
    """
    if request.table is None:
        table, named = _from_records(request.records, fields, id_name), True
    elif request.content_type != "text/csv":
        table, named = request.table.select(_select(request.table.column_names, fields, id_name)), True
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


def _select(names: Sequence[str], fields: Sequence[Field], id_name: str | None) -> list[int]:
    """Return where the id stands among the names of columns, if it does, and then each field."""
    places = {name: place for place, name in enumerate(names)}
    counts = Counter(names)
    for name in (field.name for field in fields):
        if name not in places:
            raise missing_column(name, names)
        if counts[name] > 1:
            raise RequestError(f"column {name!r} stands {counts[name]} times: send it once")
    if id_name is None or id_name not in places:
        return [places[field.name] for field in fields]
    if counts[id_name] > 1:
        raise RequestError(f"column {id_name!r} stands {counts[id_name]} times: send it once")
    return [places[id_name], *(places[field.name] for field in fields)]


def _from_csv(
    table: pa.Table, header: bool | None, fields: Sequence[Field], id_name: str | None
) -> tuple[pa.Table, bool]:
    (rows,) = table.combine_chunks().to_batches()
    names = [field.name for field in fields]
    first = [column[0].as_py() for column in rows.columns]
    named = bool(set(first) & set(names)) if header is None else header
    if named:
        rows, sent = rows.slice(1), [name or "" for name in first]
    elif len(first) == len(names):
        sent = names
    else:
        raise RequestError(
            f"the first row names no column that the model knows, and it has {len(first)} fields where a CSV without a "
            f"header has these {len(names)}: {shown(','.join(names))}"
        )
    if not rows.num_rows:
        raise RequestError("the body holds a header and no rows: send at least one")
    places = _select(sent, fields, id_name)
    columns = [rows.column(place) for place in places]
    ids, features = columns[: -len(fields)], columns[-len(fields) :]
    return pa.Table.from_arrays([*ids, *_from_texts(features, fields)], [sent[place] for place in places]), named


def _from_texts(arrays: Sequence[pa.Array], fields: Sequence[Field]) -> list[pa.Array]:
    """Read each column of text; all plain numbers at once, since a call of Arrow takes longer than a row of them."""
    numbers = [place for place, field in enumerate(fields) if field.kind == "number" and not field.exact]
    together: dict[int, pa.Array] = {}
    if len(numbers) > 1:
        try:
            joined = from_text(pa.concat_arrays([arrays[place] for place in numbers]), fields[numbers[0]])
            together = dict(zip(numbers, apart(joined, len(numbers)), strict=True))
        except RequestError:
            pass  # column by column, the message names the one and its row
    return [
        together[place] if place in together else from_text(array, field)
        for place, (array, field) in enumerate(zip(arrays, fields, strict=True))
    ]


def _from_records(records: Sequence[dict[str, Any]], fields: Sequence[Field], id_name: str | None) -> pa.Table:
    names = [field.name for field in fields]
    arrays = arrays_of(_columns(records, names), fields)
    if id_name is not None and all(id_name in record for record in records):
        arrays, names = [_ids([record[id_name] for record in records], id_name), *arrays], [id_name, *names]
    return pa.Table.from_arrays(arrays, names)


def _columns(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[tuple[Any, ...]]:
    try:
        return list(zip(*(map(record.__getitem__, names) for record in records), strict=True))
    except KeyError:
        row, name = next(
            (row, name) for row, record in enumerate(records, start=1) for name in names if name not in record
        )
        raise missing_column(name, list(records[row - 1]), f"row {row}: ") from None


def _ids(values: Sequence[Any], name: str) -> pa.Array:
    """Return ids of one kind: 1 beside 1.5 would come back as 1.0, and an object with the keys of the others."""
    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) > 1 or not kinds <= _IDS:
        raise _refused_id(values, name)
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise RequestError(f"column {name!r} cannot be read: {shown(str(error))}") from None


def _refused_id(values: Sequence[Any], name: str) -> RequestError:
    """Return the error for the first id that is none, or of another kind than the first."""
    known = next(type(value) for value in values if value is not None)
    row, value = next(
        (row, value)
        for row, value in enumerate(values, start=1)
        if value is not None and (type(value) is not known or known not in _IDS)
    )
    due = "a text or a number is due" if type(value) is known else "an id of another kind than the ones before"
    return RequestError(f"row {row}: column {name!r}: {due}, got {shown(repr(value))}")
