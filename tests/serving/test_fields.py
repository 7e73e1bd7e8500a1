"""What a client writes is what the encoder gets: text survives every form, and numbers keep their value."""

from __future__ import annotations

import csv
import io
import json
import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.serving.feature_table import to_table
from tabstep.serving.fields import Field
from tabstep.serving.request_error import RequestError
from tabstep.serving.request_rows import read_request
from tabstep.tables.column_types import ValueKind, fits, to_float64

TEXT = Field(name='a "name", hard', kind="text", dtype=pa.string(), exact=True)
NUMBER = Field(name="n", kind="number", dtype=pa.float64(), exact=False)
FIELDS = (TEXT, NUMBER)

texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
rows = st.lists(st.tuples(texts, numbers), min_size=1, max_size=6)


def columns(body: str, content_type: str) -> list[tuple[str | None, float | None]]:
    table, _ = to_table(read_request(body, content_type), FIELDS, None)
    return list(zip(table[TEXT.name].to_pylist(), table["n"].to_pylist(), strict=True))


@given(rows)
def test_json_keeps_values(values: list[tuple[str | None, float | None]]) -> None:
    records = [{TEXT.name: text, "n": number} for text, number in values]
    expected = [(text, None if number is None else float(number)) for text, number in values]
    assert columns(json.dumps(records), "application/json") == expected
    assert columns("\n".join(json.dumps(record) for record in records), "application/jsonlines") == expected


@given(rows, st.booleans())
def test_csv_keeps_values(values: list[tuple[str | None, float | None]], header: bool) -> None:
    buffer = io.StringIO()
    quoted = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    if header:
        quoted.writerow([TEXT.name, "n"])
    for text, number in values:
        cell = "" if text is None else '"' + text.replace('"', '""') + '"'
        buffer.write(f"{cell},{'' if number is None else repr(number)}\n")
    found = columns(buffer.getvalue(), f"text/csv; header={'present' if header else 'absent'}")
    assert found == [(text, None if number is None else float(number)) for text, number in values]


@pytest.mark.parametrize("missing", ["", "NA", "nan", "null", " None ", "?", "n.a.", "Unknown"])
def test_missing_numbers(missing: str) -> None:
    assert columns(f"x,{missing}\n", "text/csv") == [("x", None)]


@pytest.mark.parametrize("delimiter", ",;\t|")
def test_what_stands_between_cells(delimiter: str) -> None:
    rows = [['"a ""name"", hard"', "n"], ['"x;y,z"', "1.5"], ["", "2"]]
    body = "\n".join(delimiter.join(row) for row in rows)
    assert columns(body, "text/csv") == [("x;y,z", 1.5), (None, 2.0)]


def test_text_is_text_whatever_it_looks_like() -> None:
    assert columns("NA,1\n007,2\n", "text/csv") == [("NA", 1.0), ("007", 2.0)]


def test_infinity_in_json_is_read() -> None:
    """Python's own writer makes it; the encoder takes it for missing, as in training."""
    (found,) = columns(json.dumps([{TEXT.name: None, "n": math.inf}]), "application/json")
    assert found == (None, math.inf)


@pytest.mark.parametrize(
    ("dtype", "exact", "text", "expected"),
    [
        (pa.int32(), True, "3", 3),
        (pa.int32(), True, "3.0", 3.0),
        (pa.float32(), True, "0.1", pa.scalar(0.1, pa.float32()).as_py()),
        (pa.int64(), False, "3", 3.0),
        (pa.int64(), True, str(2**60 + 1), 2**60 + 1),
    ],
)
def test_numbers_by_their_role(dtype: pa.DataType, exact: bool, text: str, expected: float) -> None:
    field = Field(name="n", kind="number", dtype=dtype, exact=exact)
    table, _ = to_table(read_request(f"n\n{text}\n", "text/csv"), (field,), None)
    (found,) = table["n"].to_pylist()
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31 12:00:00", "2026-01-31T14:00:00+02:00"])
def test_instants_in_every_spelling(text: str) -> None:
    forms: dict[ValueKind, pa.DataType] = {
        "timestamp": pa.timestamp("ns"),
        "zoned timestamp": pa.timestamp("ns", tz="Asia/Tokyo"),
    }
    for kind, dtype in forms.items():
        field = Field(name="t", kind=kind, dtype=dtype, exact=False)
        table, _ = to_table(read_request(json.dumps([{"t": text}, {"t": None}]), "application/json"), (field,), None)
        assert fits(kind, table["t"].type)
        assert table["t"].cast(pa.timestamp("s")).to_pylist()[0].isoformat() == "2026-01-31T12:00:00"


@pytest.mark.parametrize("seconds", [0, 1.5, 1e-9, 123_456_789.25, 1e12])
def test_durations_keep_their_seconds(seconds: float) -> None:
    field = Field(name="d", kind="duration", dtype=pa.duration("ns"), exact=False)
    table, _ = to_table(read_request(json.dumps([{"d": seconds}]), "application/json"), (field,), None)
    assert fits("duration", table["d"].type)
    assert to_float64(table["d"].combine_chunks()).tolist() == [seconds]


def test_name_that_stands_twice() -> None:
    with pytest.raises(RequestError, match="column 'n' stands 2 times"):
        to_table(read_request("n,n\n1,2\n", "text/csv"), (NUMBER,), None)
