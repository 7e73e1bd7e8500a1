"""The body of a request to rows as they were written: CSV, JSON, JSON lines or parquet. Types follow in ``fields``."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Sequence
from csv import reader
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from tabstep.errors import UserError, nearest

MALFORMED: Final = 400
NOT_ACCEPTABLE: Final = 406
UNSUPPORTED: Final = 415

CSV: Final = "text/csv"
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonlines"
PARQUET: Final = "application/x-parquet"
_NAMES: Final = {
    CSV: CSV,
    "application/csv": CSV,
    JSON: JSON,
    JSON_LINES: JSON_LINES,
    "application/jsonl": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/x-ndjson": JSON_LINES,
    PARQUET: PARQUET,
    "application/parquet": PARQUET,
    "application/vnd.apache.parquet": PARQUET,
}
_SHOWN: Final = 120


class RequestError(UserError):
    """A request that cannot be answered; ``status`` is the HTTP status that says whose fault it is."""

    def __init__(self, message: str, status: int = MALFORMED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Request:
    """Rows as they were sent: ``table`` is parquet, or CSV as text; ``records`` are JSON objects.

    ``header`` says whether the first row of a CSV holds names; None leaves that to its content.
    """

    content_type: str
    table: pa.Table | None = None
    records: Sequence[dict[str, Any]] = ()
    header: bool | None = None


def media_type(header: str | None) -> tuple[str | None, dict[str, str]]:
    """Return our name of a media type, None for one that is unknown, and its parameters.

    >>> media_type("Text/CSV; header=absent")
    ('text/csv', {'header': 'absent'})
    """
    message = Message()
    message["content-type"] = header or "none/none"
    parameters = dict((message.get_params() or [])[1:])
    return _NAMES.get(message.get_content_type()), parameters


def read_request(body: bytes | bytearray | str, content_type: str | None) -> Request:
    """Parse a body.

    Raises:
        RequestError: 415 for an unknown content type, 400 for a body that is not what its type says.
    """
    found, parameters = media_type(content_type)
    if found is None:
        known = ", ".join((CSV, JSON, JSON_LINES, PARQUET))
        raise RequestError(f"content type {content_type!r} cannot be read: send one of {known}", UNSUPPORTED)
    data = body.encode() if isinstance(body, str) else bytes(body)
    if not data:
        raise RequestError("the body is empty: send at least one row")
    if found == PARQUET:
        return Request(content_type=found, table=_parquet(data))
    text = _text(data, parameters.get("charset", "utf-8"))
    if found == CSV:
        return Request(content_type=found, table=_csv(text), header=_header(parameters.get("header")))
    records = _json(text) if found == JSON else _json_lines(text)
    if not records:
        raise RequestError("the body holds no rows: send at least one")
    return Request(content_type=found, records=records)


def _header(value: str | None) -> bool | None:
    if value not in (None, "present", "absent"):
        raise RequestError(f"content type: header={value} is unknown: write header=present or header=absent")
    return None if value is None else value == "present"


def _text(data: bytes, charset: str) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode(charset)
    except LookupError:
        raise RequestError(f"charset {charset!r} is unknown: send UTF-8", UNSUPPORTED) from None
    except UnicodeDecodeError as error:
        raise RequestError(f"byte {error.start} of the body is not {charset}: send UTF-8") from None


def _csv(text: str) -> pa.Table:
    """Read every cell as text; an empty one without quotes is null."""
    first = next(reader(io.StringIO(text.lstrip("\r\n"))), None)
    if first is None:
        raise RequestError("the body holds no rows: send at least one")
    data = text.encode() + (b"" if text.endswith("\n") else b"\n")  # Arrow does not see a single row without one
    reading = csv.ReadOptions(autogenerate_column_names=True, use_threads=False, block_size=len(data))
    parsing = csv.ParseOptions(newlines_in_values=True)
    types = {f"f{index}": pa.string() for index in range(len(first))}
    converting = csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    return _parsed(
        lambda: csv.read_csv(io.BytesIO(data), read_options=reading, parse_options=parsing, convert_options=converting),
        "CSV",
    )


def _parquet(data: bytes) -> pa.Table:
    table = _parsed(lambda: pq.read_table(io.BytesIO(data), page_checksum_verification=True), "parquet")
    if not table.num_rows:
        raise RequestError("the body holds no rows: send at least one")
    return table


def _parsed(read: Callable[[], pa.Table], what: str) -> pa.Table:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"the body is not {what}: {shown(str(error))}") from None


def _json(text: str) -> list[dict[str, Any]]:
    data = _load(text, "the body")
    if isinstance(data, dict) and isinstance(data.get("instances"), list):
        data = data["instances"]
    elif isinstance(data, dict):
        data = [data]
    if not isinstance(data, list):
        raise RequestError(f'the body is {_kind(data)}: send one object, a list of them, or {{"instances": [...]}}')
    return [_record(item, f"row {number}") for number, item in enumerate(data, start=1)]


def _json_lines(text: str) -> list[dict[str, Any]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [_record(_load(line, f"line {number}"), f"line {number}") for number, line in lines]


def _load(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise RequestError(f"{where} is nested too deeply: a row is one flat object") from None
    except ValueError as error:
        raise RequestError(f"{where} is not JSON: {error}") from None


def _record(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise RequestError(f"{where} is {_kind(item)}: a row is an object with a value for each column name")
    return item


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds[type(value)]


def shown(text: str) -> str:
    """Return the first line of what came from outside, cut to a length that a status line can carry."""
    line = (text.strip() or "unreadable").splitlines()[0]
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def missing_column(name: str, present: Sequence[str], where: str = "") -> RequestError:
    """Return the error for a column that a request lacks."""
    return RequestError(f"{where}column {name!r} is missing: {nearest(name, present)}")
