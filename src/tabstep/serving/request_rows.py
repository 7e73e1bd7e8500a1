"""The body of a request to rows as they were written: CSV, JSON, JSON lines or parquet. Types follow in ``fields``."""

from __future__ import annotations

import codecs
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from csv import Error as CsvError
from csv import field_size_limit, reader
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from tabstep.serving.limits import Limits
from tabstep.serving.request_error import UNSUPPORTED, RequestError, shown
from tabstep.tables.column_types import is_text, without_views

T = TypeVar("T")

CSV: Final = "text/csv"
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonlines"
PARQUET: Final = "application/x-parquet"
_MARK: Final = "\ufeff"
_PREFIXED: Final = "DELTA_BYTE_ARRAY"
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


@dataclass(frozen=True, kw_only=True)
class Request:
    """Rows as they were sent: ``table`` is parquet, or CSV as text; ``records`` are JSON objects.

    ``header`` says whether the first row of a CSV holds names; None leaves that to its content.
    """

    content_type: str
    table: pa.Table | None = None
    records: Sequence[dict[str, Any]] = ()
    header: bool | None = None


@lru_cache(maxsize=64)
def media_type(header: str | None) -> tuple[str | None, Mapping[str, str]]:
    """Return our name of a media type, None for one that is unknown, and its parameters.

    >>> media_type("Text/CSV; header=absent")
    ('text/csv', {'header': 'absent'})
    """
    # the parser of mail headers knows the rules of parameters and quotes
    message = Message()
    message["content-type"] = header or "none/none"
    try:
        parameters = {name: collapse_rfc2231_value(value) for name, value in (message.get_params() or [])[1:]}
    except (ValueError, LookupError, TypeError):
        raise RequestError(f"content type {shown(repr(header))} cannot be read") from None
    return _NAMES.get(message.get_content_type()), parameters


def read_request(body: bytes | bytearray | str, content_type: str | None, limits: Limits | None = None) -> Request:
    """Parse a body.

    Raises:
        RequestError: 415 for an unknown content type, 400 for a body that is not what its type says, 413 for one that
            asks for more than ``limits`` allow.
    """
    limits = limits or Limits()
    found, parameters = media_type(content_type)
    if found is None:
        known = ", ".join((CSV, JSON, JSON_LINES, PARQUET))
        raise RequestError(f"content type {shown(repr(content_type))} cannot be read: send one of {known}", UNSUPPORTED)
    if not isinstance(body, bytes | bytearray | memoryview | str):
        raise RequestError(f"the body is {type(body).__name__}: send bytes")
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    limits.check("max_request_bytes", len(data), f"the body has {len(data):,} bytes")
    if not data:
        raise RequestError("the body is empty: send at least one row")
    if found == PARQUET:
        return Request(content_type=found, table=_parquet(data, limits))
    text = _text(data, parameters.get("charset", "utf-8"))
    if found == CSV:
        return Request(content_type=found, table=_csv(text, limits), header=_header(parameters.get("header")))
    records = _json(text, limits) if found == JSON else _json_lines(text, limits)
    if not records:
        raise RequestError("the body holds no rows: send at least one")
    limits.check("max_request_rows", len(records), f"the body has {len(records):,} rows")
    return Request(content_type=found, records=records)


def _header(value: str | None) -> bool | None:
    if value not in (None, "present", "absent"):
        raise RequestError(
            f"content type: header={shown(str(value))} is unknown: write header=present or header=absent"
        )
    return None if value is None else value == "present"


def _text(data: bytes, charset: str) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode(charset)
    except LookupError:
        raise RequestError(f"charset {shown(repr(charset))} is unknown: send UTF-8", UNSUPPORTED) from None
    except UnicodeDecodeError as error:
        raise RequestError(f"byte {error.start} of the body is not {shown(charset)}: send UTF-8") from None
    except ValueError:  # of names such as "undefined", which Python knows for a codec that reads nothing
        raise RequestError(f"charset {shown(repr(charset))} reads nothing: send UTF-8") from None


def _csv(text: str, limits: Limits) -> pa.Table:
    """Read every cell as text; an empty one without quotes is null. The delimiter is that of the first row."""
    delimiter = _delimiter(text)
    columns = _columns(text, delimiter)
    if not columns:
        raise RequestError("the body holds no rows: send at least one")
    limits.check("max_request_columns", columns, f"the first row has {columns:,} columns")
    try:
        data = text.encode() + (b"" if text.endswith("\n") else b"\n")  # Arrow does not see a single row without one
    except UnicodeEncodeError as error:
        raise RequestError(f"the body holds text that is not Unicode: {error.reason}: send UTF-8") from None
    # one block, since a row that is longer than a block is an error
    reading = csv.ReadOptions(autogenerate_column_names=True, use_threads=False, block_size=len(data))
    parsing = csv.ParseOptions(newlines_in_values=True, delimiter=delimiter)
    types = {f"f{index}": pa.string() for index in range(columns)}
    converting = csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    table = _parsed(
        lambda: csv.read_csv(io.BytesIO(data), read_options=reading, parse_options=parsing, convert_options=converting),
        "CSV",
    )
    # one row more than is allowed may hold the names
    limits.check("max_request_rows", table.num_rows - 1, f"the body has more than {table.num_rows - 1:,} rows")
    return table


def _delimiter(text: str) -> str:
    r"""Return the comma, or what stands between the cells of a first row that has none outside of quotes.

    >>> _delimiter('age;job\n'), _delimiter('"a;b",1\n'), _delimiter('"a;b"\n')
    (';', ',', ',')
    """
    first = text.lstrip("\r\n").split("\n", 1)[0]
    outside = "".join(first.split('"')[::2])
    return "," if "," in outside else next((mark for mark in ";\t|" if mark in outside), ",")


def _columns(text: str, delimiter: str) -> int:
    """Return how many fields the first row has; 0 where there is no row."""
    before = field_size_limit(len(text) + 1)  # the body has its own
    try:
        return len(next(reader(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter=delimiter), ()))
    except CsvError as error:
        raise RequestError(f"the body is not CSV: {error}") from None
    finally:
        field_size_limit(before)


def _parquet(data: bytes, limits: Limits) -> pa.Table:
    file = _parsed(lambda: pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True), "parquet")
    rows, columns = file.metadata.num_rows, len(file.schema_arrow.names)
    limits.check("max_request_rows", rows, f"the body has {rows:,} rows")
    limits.check("max_request_columns", columns, f"the body has {columns:,} columns")
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    bits = sum(dtype.bit_width for dtype in file.schema_arrow.types if pa.types.is_primitive(dtype))
    _check_expansion(max(rows * bits // 8, sum(group.total_byte_size for group in groups)), limits)
    if not rows:
        raise RequestError("the body holds no rows: send at least one")
    # A text that stands in every row is one in a dictionary: what it would take is known before it takes it.
    texts = _dictionaries(groups, [field.name for field in file.schema_arrow if is_text(field.type)])
    packed = partial(pq.ParquetFile, io.BytesIO(data), page_checksum_verification=True, read_dictionary=texts)
    table = _parsed(lambda: packed().read(), "parquet")
    _check_expansion(sum(map(_unpacked_bytes, table.columns)), limits)
    schema = pa.schema([field.with_type(without_views(field.type)) for field in file.schema_arrow])
    table = _parsed(lambda: table.cast(schema), "parquet")
    _parsed(lambda: table.validate(full=True), "parquet")
    return table


def _dictionaries(groups: Sequence[pq.RowGroupMetaData], texts: Sequence[str]) -> list[str]:
    """Return the columns of text that Arrow reads as a dictionary.

    Raises:
        RequestError: a text is written as what it adds to the one before: a few bytes are then any number of them.
    """
    encodings: dict[str, set[str]] = {}
    for group in groups:
        for column in map(group.column, range(group.num_columns)):
            encodings.setdefault(column.path_in_schema, set()).update(column.encodings)
    for name in texts:
        if _PREFIXED in encodings.get(name, ()):
            raise RequestError(
                f"column {shown(repr(name))} is encoded as {_PREFIXED}, of which a small body can stand for any number "
                "of bytes: write it with a dictionary"
            )
    return [name for name in texts if "DELTA_LENGTH_BYTE_ARRAY" not in encodings.get(name, ())]


def _check_expansion(size: int, limits: Limits) -> None:
    limits.check("max_request_expansion", size, f"the rows take {size:,} bytes when they are no longer compressed")


def _unpacked_bytes(column: pa.ChunkedArray) -> int:
    """Return the bytes of the values of a column, whose dictionary would hold each text once."""
    if not (pa.types.is_dictionary(column.type) and is_text(column.type.value_type)):
        return int(column.nbytes)
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(each).as_py() or 0 for each in lengths)


def _parsed(read: Callable[[], T], what: str) -> T:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"the body is not {what}: {shown(str(error))}") from None


def _json(text: str, limits: Limits) -> list[dict[str, Any]]:
    data = _Loader(limits)(text, "the body")
    if isinstance(data, dict) and isinstance(data.get("instances"), list):
        data = data["instances"]
    elif isinstance(data, dict) and isinstance(data.get("columns"), dict):
        data = _rows_of_columns(data["columns"], limits)
    elif isinstance(data, dict):
        data = [data]
    if not isinstance(data, list):
        raise RequestError(
            f"the body is {_kind(data)}: send one object, a list of them, "
            'or {"instances": [...]} or {"columns": {...}}'
        )
    if set(map(type, data)) == {dict}:
        return data
    return [_record(item, "row", number) for number, item in enumerate(data, start=1)]


def _rows_of_columns(columns: dict[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """Return the rows of ``{"age": [39, 50], "city": ["Ulm", "Bonn"]}``."""
    for name, values in columns.items():
        if not isinstance(values, list):
            raise RequestError(f"column {name!r} is {_kind(values)}: a list with the value of each row is due")
    lengths = {name: len(values) for name, values in columns.items()}
    if len({*lengths.values()}) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise RequestError(f"columns differ in length: {short!r} has {lengths[short]}, {long!r} has {lengths[long]}")
    limits.check("max_request_rows", max(lengths.values(), default=0), "the body has more rows")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json_lines(text: str, limits: Limits) -> list[dict[str, Any]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    load = _Loader(limits)
    return [_record(load(line, "line", number), "line", number) for number, line in lines]


class _Loader:
    """Reads JSON and counts its objects: each row is one, and ``instances`` one more."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        self._decode = json.JSONDecoder(object_pairs_hook=self._object).decode

    def __call__(self, text: str, what: str, number: int | None = None) -> Any:
        """Return what a text says; an error names ``what`` with its number."""
        try:
            return json.loads(text) if text.startswith(_MARK) else self._decode(text)  # the first refuses a mark
        except RequestError:
            raise
        except RecursionError:
            raise RequestError(f"{_numbered(what, number)} is nested too deeply: a row is one flat object") from None
        except ValueError as error:
            raise RequestError(f"{_numbered(what, number)} is not JSON: {error}") from None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._count += 1
        if self._count - 1 > self._limits.max_request_rows:
            self._limits.check("max_request_rows", self._count - 1, "the body has more rows")
        if len(pairs) > self._limits.max_request_columns:
            self._limits.check("max_request_columns", len(pairs), f"a row has {len(pairs):,} columns")
        found = dict(pairs)
        if len(found) < len(pairs):
            name, count = Counter(name for name, _ in pairs).most_common(1)[0]
            raise RequestError(f"column {shown(repr(name))} stands {count} times: send it once")
        return found


def _record(item: Any, what: str, number: int) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise RequestError(f"{what} {number} is {_kind(item)}: a row is an object with a value for each column name")
    return item


def _numbered(what: str, number: int | None) -> str:
    return what if number is None else f"{what} {number}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds[type(value)]
