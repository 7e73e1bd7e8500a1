"""Requests that are not what they say: encodings, ids, keys that stand twice, parquet that others write."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.serving import handler
from tests.faults.test_requests import CSV, GOOD, HEADER, JSON, LINES, PARQUET, ROW, answered, js, line, parquet, raw

PACKED = parquet()
GIVEN = pq.read_table(io.BytesIO(PACKED))
DEEP = "[" * 900 + "]" * 900


def packed(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def of_bytes(content: bytes) -> pa.Array:
    """Return one text of bytes that may be no UTF-8."""
    return pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, len(content)], np.int32)), pa.py_buffer(content))


def stream() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, GIVEN.schema) as writer:
        writer.write_table(GIVEN)
    return bytes(sink.getvalue().to_pybytes())


def columns(**changes: Any) -> str:
    return json.dumps({"columns": {**{name: [value] for name, value in GOOD.items()}, **changes}})


def footer(length: int) -> bytes:
    return PACKED[:-8] + struct.pack("<I", length) + b"PAR1"


CASES: dict[str, tuple[Any, Any, int]] = {
    # keys and nesting
    "a key that stands twice": ('{"age":1,' + js()[1:], JSON, 400),
    "a key twice in lines": ('{"age":1,' + js()[1:], LINES, 400),
    "an unused key twice": (js()[:-1] + ',"z":1,"z":2}', JSON, 400),
    "a hostile key": (js(__proto__=1), JSON, 200),
    "a key of a surrogate": (js()[:-1] + ',"\\ud800":1}', JSON, 200),
    "a deep value of another column": (js()[:-1] + f',"z":{DEEP}}}', JSON, 200),
    "a deep value of a column": (raw(city=DEEP), JSON, 400),
    "a deep id": (raw(row_id=DEEP), JSON, 400),
    "columns": (columns(), JSON, 200),
    "columns of other lengths": (columns(age=[1, 2]), JSON, 400),
    "columns of no list": (columns(age=1), JSON, 400),
    "no columns": ('{"columns":{}}', JSON, 400),
    "columns of no rows": ('{"columns":{"age":[]}}', JSON, 400),
    "columns that are null": ('{"columns":null}', JSON, 400),
    "instances that are null": ('{"instances":null}', JSON, 400),
    "instances in instances": ('{"instances":[{"instances":[]}]}', JSON, 400),
    "a comma at the end": (js()[:-1] + ",}", JSON, 400),
    "single quotes": (js().replace('"', "'"), JSON, 400),
    "a comment": ("// a\n" + js(), JSON, 400),
    "two objects": (js() + js(), JSON, 400),
    "lines sent as json": (js() + "\n" + js(), JSON, 400),
    "json sent as lines": (f"[{js()}]", LINES, 400),
    "an object over lines": (json.dumps(GOOD, indent=1), LINES, 400),
    "lines with crlf": (js() + "\r\n" + js() + "\r\n", LINES, 200),
    "lines with a separator of Unicode": (js(city="a\u2028b"), LINES, 200),
    # encodings
    "json with a mark of order": ("\ufeff" + js(), JSON, 200),
    "two marks of order": ("\ufeff\ufeff" + js(), JSON, 400),
    "utf-16 without a word": (js().encode("utf-16"), JSON, 400),
    "utf-16": (js().encode("utf-16"), "application/json; charset=utf-16", 200),
    "utf-16 csv": (line().encode("utf-16"), "text/csv; charset=utf-16", 200),
    "utf-32": (js().encode("utf-32"), "application/json; charset=utf-32", 200),
    "gzip": (gzip.compress(js().encode()), JSON, 400),
    "a bomb of gzip": (gzip.compress(b"0" * 10**7), CSV, 400),
    "gzip of parquet": (gzip.compress(PACKED), PARQUET, 400),
    "a charset of 100,000 letters": (js(), "application/json; charset=" + "x" * 100_000, 415),
    "a charset that is a path": (js(), "application/json; charset=../../etc/passwd", 415),
    "a content type of 100,000 letters": (js(), "application/" + "x" * 100_000, 415),
    "a content type of two lines": (js(), "application/json\r\nx: y", 415),
    "a content type of a number": (js(), 5, 415),
    "no body": (None, JSON, 400),
    "a body of a number": (5, JSON, 400),
    "a body in memory": (memoryview(js().encode()), JSON, 200),
    "a body that may change": (bytearray(js().encode()), JSON, 200),
    # csv
    "a quote that stays open at the end": (f'{HEADER}\n{ROW}\n"abc', CSV, 400),
    "a quote that stays open at the start": (f'"{HEADER}\n{ROW}', CSV, 400),
    "a million quotes": ('"' * 1_000_001, CSV, 400),
    "semicolons": (line().replace(",", ";"), CSV, 200),
    "tabs": (line().replace(",", "\t"), CSV, 200),
    "semicolons below a header with commas": (f"{HEADER}\n{ROW.replace(',', ';')}", CSV, 400),
    "semicolons and tabs": (line().replace(",", ";\t"), CSV, 400),
    "a null in a cell": (line(city="a\0b"), CSV, 200),
    "a hexadecimal number": (line(age="0x10"), CSV, 400),
    "a number with an underscore": (line(age="1_000"), CSV, 400),
    "digits of another script": (line(age="٣"), CSV, 400),
    "a number of 100,000 digits": (line(age="1" * 100_000), CSV, 200),
    "a header named twice": (line(), "text/csv; header=present; header=absent", 400),
    "a header that is said to be absent": (line(), "text/csv; header=absent", 400),
    # values
    "an integer of 10^400": (raw(age="1" + "0" * 400), JSON, 200),
    "a duration of 1e300": (raw(waited="1e300"), JSON, 400),
    "the year -1": (js(joined="-0001-01-01"), JSON, 400),
    "a leap second": (js(seen="2026-12-31T23:59:60Z"), JSON, 400),
    "a zone of 99 hours": (js(seen="2026-01-01T00:00:00+99:99"), JSON, 400),
    # ids
    "an id that is an object": (js(row_id={"a": 1}), JSON, 400),
    "an id that is a list": (js(row_id=[1]), JSON, 400),
    "ids of texts and numbers": (f"[{js(row_id=1)},{js()}]", JSON, 400),
    "ids of integers and fractions": (f"[{js(row_id=1)},{js(row_id=1.5)}]", JSON, 400),
    "ids of flags and numbers": (f"[{js(row_id=True)},{js(row_id=1)}]", JSON, 400),
    "an id of 2^63": (js(row_id=2**63), JSON, 400),
    "ids of which one is null": (f"[{js(row_id=None)},{js()}]", JSON, 200),
    "an id of the year 300000": (parquet(row_id=pa.array([2**60]).cast(pa.timestamp("us"))), PARQUET, 400),
    "an id of a day that Python has not": (parquet(row_id=pa.array([2**31 - 1], pa.date32())), PARQUET, 400),
    "an id in a zone of Mars": (parquet(row_id=pa.array([1], pa.timestamp("us", "Mars/Olympus"))), PARQUET, 400),
    "an id of bytes": (parquet(row_id=[b"\xff"]), PARQUET, 400),
    "an id of a list of NaN": (parquet(row_id=[[float("nan")]]), PARQUET, 400),
    "an id of a struct": (parquet(row_id=[{"a": 1}]), PARQUET, 400),
    "an id of a view": (parquet(row_id=pa.array(["a"], pa.string_view())), PARQUET, 200),
    "an id of a dictionary": (parquet(row_id=pa.array(["a"]).dictionary_encode()), PARQUET, 200),
    "an id of NaN in a dictionary": (parquet(row_id=pa.array([float("nan")]).dictionary_encode()), PARQUET, 400),
    "an id of float16 NaN": (parquet(row_id=pa.array([np.float16("nan")])), PARQUET, 400),
    "an id of uint64": (parquet(row_id=pa.array([2**64 - 1], pa.uint64())), PARQUET, 200),
    "an id of nanoseconds": (parquet(row_id=pa.array([2**62], pa.timestamp("ns"))), PARQUET, 200),
    "an id of a decimal": (parquet(row_id=pa.array([1]).cast(pa.decimal128(21, 2))), PARQUET, 200),
    "an id of nulls": (parquet(row_id=pa.nulls(1)), PARQUET, 200),
    # parquet
    "an id column twice": (packed(GIVEN.append_column("row_id", GIVEN["row_id"])), PARQUET, 400),
    "a column twice": (packed(GIVEN.append_column("age", GIVEN["age"])), PARQUET, 400),
    "no columns of parquet": (packed(pa.table({})), PARQUET, 400),
    "a view of texts": (parquet(city=pa.array(["Bonn"], pa.string_view())), PARQUET, 200),
    "large texts": (parquet(city=pa.array(["Bonn"], pa.large_string())), PARQUET, 200),
    "text that is no UTF-8": (parquet(city=of_bytes(b"\xff")), PARQUET, 400),
    "an id that is no UTF-8": (parquet(row_id=of_bytes(b"\xff")), PARQUET, 400),
    "other columns of any type": (parquet(y=[[1]], z=[{"a": 1}]), PARQUET, 200),
    "texts by their differences": (
        packed(GIVEN, use_dictionary=False, column_encoding={"city": "DELTA_BYTE_ARRAY"}),
        PARQUET,
        400,
    ),
    "texts by their lengths": (
        packed(GIVEN, use_dictionary=False, column_encoding={"city": "DELTA_LENGTH_BYTE_ARRAY"}),
        PARQUET,
        200,
    ),
    "an old version": (packed(GIVEN, version="1.0"), PARQUET, 200),
    "new pages": (packed(GIVEN, data_page_version="2.0"), PARQUET, 200),
    "brotli": (packed(GIVEN, compression="brotli"), PARQUET, 200),
    "times of 96 bits": (packed(GIVEN, use_deprecated_int96_timestamps=True), PARQUET, 400),
    "a cut footer": (PACKED[:-5], PARQUET, 400),
    "a cut middle": (PACKED[: len(PACKED) // 2] + PACKED[-200:], PARQUET, 400),
    "a footer of no bytes": (footer(0), PARQUET, 400),
    "a footer of twice the body": (footer(2 * len(PACKED)), PARQUET, 400),
    "a footer of -5 bytes": (footer(2**32 - 5), PARQUET, 400),
    "a footer of another body": (PACKED[:200] + parquet(age=[1.0] * 5)[200:], PARQUET, 400),
    "an encrypted body": (b"PARE" + PACKED[4:-4] + b"PARE", PARQUET, 400),
    "a stream of Arrow": (stream(), "application/vnd.apache.arrow.stream", 415),
    "a stream of Arrow as parquet": (stream(), PARQUET, 400),
}


@pytest.fixture(scope="module")
def model(model_dir: Path) -> handler.ServedModel:
    return handler.model_fn(str(model_dir))


@pytest.mark.parametrize("name", CASES)
def test_request(name: str, model: handler.ServedModel, ends: Callable[[str], None]) -> None:
    """Whatever it asks for, the answer can be written in each form."""
    body, content_type, status = CASES[name]
    for accept in (JSON, LINES, CSV, PARQUET):
        assert answered(model, body, content_type, accept) == status
    ends(str(status))
