"""Hostile and mistaken requests: each has its status and a line, in bounded time and memory."""

from __future__ import annotations

import io
import json
import resource
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.errors import UserError
from tabstep.serving import handler
from tabstep.serving.limits import Limits

GOOD: dict[str, Any] = {
    "row_id": "a",
    "age": 40.5,
    "income": 3,
    "joined": "2026-01-31",
    "waited": 1.5,
    "flag": True,
    "seen": "2026-01-31T12:00:00Z",
    "city": "Bonn",
    "member": False,
}
HEADER = ",".join(GOOD)
ROW = ",".join(map(str, GOOD.values()))
JSON, LINES, CSV, PARQUET = "application/json", "application/jsonlines", "text/csv", "application/x-parquet"


def js(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def raw(**texts: str) -> str:
    """Return a row whose named values are these texts of JSON."""
    items = {name: texts.get(name, json.dumps(value)) for name, value in GOOD.items()}
    return "{" + ",".join(f'"{name}":{text}' for name, text in items.items()) + "}"


def line(**changes: str) -> str:
    return f"{HEADER}\n" + ",".join(changes.get(name, str(value)) for name, value in GOOD.items()) + "\n"


def parquet(**changes: Any) -> bytes:
    columns: dict[str, Any] = {
        "row_id": ["a"],
        "age": [40.5],
        "income": pa.array([3], pa.int32()),
        "joined": pa.array([20_000], pa.int32()).cast(pa.date32()),
        "waited": pa.array([1]).cast(pa.duration("us")),
        "flag": [True],
        "seen": pa.array([1]).cast(pa.timestamp("us", tz="UTC")),
        "city": ["Bonn"],
        "member": [False],
        **changes,
    }
    rows = max(len(values) for values in columns.values())
    columns = {
        name: values if len(values) == rows else pa.repeat(pa.array(values)[0], rows)
        for name, values in columns.items()
    }
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


@cache
def same_text(size: int, rows: int) -> bytes:
    """Return a small file that stands for ``size * rows`` bytes of text."""
    return parquet(city=pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * size])))


ZEROS = pa.array(np.zeros(100_000))

Body = bytes | str | Callable[[], bytes | str]
Case = tuple[Body, str | None, int]
CASES: dict[str, Case] = {
    # what works
    "an object": (js(), JSON, 200),
    "a list": (f"[{js()},{js()}]", JSON, 200),
    "instances": (f'{{"instances":[{js()}]}}', JSON, 200),
    "lines": (f"{js()}\n\n{js()}\n", LINES, 200),
    "csv": (line(), CSV, 200),
    "csv without a last newline": (line().rstrip(), CSV, 200),
    "csv with crlf": (line().replace("\n", "\r\n"), CSV, 200),
    "csv with cr": (line().replace("\n", "\r"), CSV, 200),
    "csv with a mark of order": ("\ufeff" + line(), CSV, 200),
    "csv with blank lines": ("\n\n" + line() + "\n\n", CSV, 200),
    "csv with a field of 200 kB": (line(city="x" * 200_000), CSV, 200),
    "csv with a quoted newline": (line(city='"a\nb"'), CSV, 200),
    "csv with more columns": (f"{HEADER},more\n{ROW},1\n", CSV, 200),
    "parquet": (parquet(), PARQUET, 200),
    "parquet of a dictionary": (parquet(city=pa.array(["Bonn"]).dictionary_encode()), PARQUET, 200),
    "parquet of 1,000 rows": (lambda: same_text(10, 1_000), PARQUET, 200),
    "nulls": (js(age=None, city=None, flag=None, joined=None), JSON, 200),
    "infinity for a number": (raw(age="Infinity"), JSON, 200),
    "a huge number": (raw(age="1e400"), JSON, 200),
    "an id of a number": (js(row_id=7), JSON, 200),
    "a null id": (js(row_id=None), JSON, 200),
    "latin-1": (line(city="Köln").encode("latin-1"), "text/csv; charset=iso-8859-1", 200),
    "text as a body": (line(), "text/csv; charset=utf-8", 200),
    # the content type
    "no content type": (js(), None, 415),
    "an empty content type": (js(), "", 415),
    "xml": ("<a/>", "application/xml", 415),
    "an unknown charset": (js(), "application/json; charset=none", 415),
    "a charset that reads nothing": (js(), "application/json; charset=undefined", 400),
    "a charset with a null": (js(), "application/json; charset=a\0b", 400),
    "a charset of bytes": (js(), "application/json; charset=zlib", 415),
    "a charset in pieces": (js(), "application/json; charset*0=ut; charset*1=f-8", 200),
    "a charset with a language": (js(), "application/json; charset*=utf-8'en'utf-8", 200),
    "another header": (line(), "text/csv; header=perhaps", 400),
    "utf-16 that is none": (js(), "application/json; charset=utf-16", 400),
    "utf-7 of a surrogate": (b"+2AA-,1\n", "text/csv; charset=utf-7", 400),
    # bodies that are nothing
    "an empty body": ("", JSON, 400),
    "an empty csv": ("", CSV, 400),
    "blank lines": ("\n\r\n", CSV, 400),
    "spaces": ("   ", JSON, 400),
    "an empty list": ("[]", JSON, 400),
    "no instances": ('{"instances":[]}', JSON, 400),
    "a header alone": (HEADER + "\n", CSV, 400),
    "no rows of parquet": (lambda: empty_parquet(), PARQUET, 400),
    # bodies that are something else
    "not json": ("{", JSON, 400),
    "a number": ("3", JSON, 400),
    "a text": ('"a"', JSON, 400),
    "null": ("null", JSON, 400),
    "true": ("true", JSON, 400),
    "a list of numbers": ("[1,2]", JSON, 400),
    "a list of lists": (f"[[{js()}]]", JSON, 400),
    "nested 100,000 deep": ("[" * 100_000, JSON, 400),
    "objects 100,000 deep": ('{"a":' * 100_000, JSON, 400),
    "a number of 5,000 digits": (raw(income="9" * 5_000), JSON, 400),
    "a line that is not json": (f"{js()}\nx\n", LINES, 400),
    "a line of a list": ("[]\n", LINES, 400),
    "not utf-8": (b"\xff\xfe\xfd", JSON, 400),
    "not utf-8 in csv": (HEADER.encode() + b"\n\xff\n", CSV, 400),
    "nulls in csv": ("\0" * 100, CSV, 400),
    "rows of other lengths": (f"{HEADER}\n{ROW}\n1,2\n", CSV, 400),
    "an open quote": (f'{HEADER}\n"{ROW}\n', CSV, 400),
    "csv without names": ("1,2\n", CSV, 400),
    "csv with a name twice": (f"{HEADER},age\n{ROW},1\n", CSV, 400),
    "json sent as parquet": (js(), PARQUET, 400),
    "csv sent as json": (line(), JSON, 400),
    "parquet sent as csv": (parquet(), CSV, 400),
    "parquet sent as json": (parquet(), JSON, 400),
    "a magic number alone": (b"PAR1", PARQUET, 400),
    "two magic numbers": (b"PAR1PAR1", PARQUET, 400),
    "a footer of 2 GB": (b"PAR1" + b"\xff\xff\xff\x7fPAR1", PARQUET, 400),
    # values
    "a missing column": (json.dumps({"age": 1}), JSON, 400),
    "a missing column with a hostile name": ('{"\\ud800": 1}', JSON, 400),
    "text for a number": (js(age="old"), JSON, 400),
    "true for a number": (js(age=True), JSON, 400),
    "a list for a number": (js(age=[1]), JSON, 400),
    "an object for text": (js(city={}), JSON, 400),
    "a number for text": (js(city=3), JSON, 400),
    "a surrogate": (raw(city='"\\ud800"'), JSON, 400),
    "a number for a date": (js(joined=3), JSON, 400),
    "no date": (js(joined="2026-13-45"), JSON, 400),
    "a date of the year 99999999": (js(joined="99999999-01-01"), JSON, 400),
    "a time for a date": (js(joined="yesterday"), JSON, 400),
    "text for a duration": (js(waited="long"), JSON, 400),
    "an infinite duration": (raw(waited="Infinity"), JSON, 400),
    "text for a flag": (js(flag="yes!"), JSON, 400),
    "no time": (js(seen="noon"), JSON, 400),
    "text in a csv number": (line(age="old"), CSV, 400),
    "a wrong flag in csv": (line(flag="maybe"), CSV, 400),
    "an id that is not a number": (raw(row_id="NaN"), JSON, 400),
    "an infinite id": (raw(row_id="-Infinity"), JSON, 400),
    "an id of 2^64": (raw(row_id=str(2**64)), JSON, 400),
    "an id of 1e400": (raw(row_id="1e400"), JSON, 400),
    "ids of two kinds": (f"[{js()},{js(row_id=[1])}]", JSON, 400),
    "a surrogate as id": (raw(row_id='"\\udfff"'), JSON, 400),
    "an id that is NaN in parquet": (parquet(row_id=[float("nan")]), PARQUET, 400),
    "numbers for text in parquet": (parquet(city=[3]), PARQUET, 400),
    "a timestamp for a date in parquet": (parquet(joined=pa.array([1]).cast(pa.timestamp("s"))), PARQUET, 400),
    "a time without a zone in parquet": (parquet(seen=pa.array([1]).cast(pa.timestamp("us"))), PARQUET, 400),
    "a number for a duration in parquet": (parquet(waited=[1]), PARQUET, 400),
    "a list in parquet": (parquet(age=[[1.0]]), PARQUET, 400),
    "bytes in parquet": (parquet(city=[b"\xff"]), PARQUET, 400),
    # more than is read
    "1 MB of commas": ("," * 2**20, CSV, 413),
    "1 MB of quoted commas": ('",",' * 2**18, CSV, 413),
    "26 MB": (b" " * (26 * 2**20), JSON, 413),
    "26 MB of csv": (lambda: b"1\n" * (13 * 2**20 + 1), CSV, 413),
    "a million rows of parquet": (lambda: same_text(1, 1_000_000), PARQUET, 413),
    "100,001 rows of csv": (lambda: HEADER + "\n" + (ROW + "\n") * 100_001, CSV, 413),
    "3 million objects": (lambda: "[" + "{}," * 3_000_000 + "{}]", JSON, 413),
    "a million lines": (lambda: "{}\n" * 1_000_000, LINES, 413),
    "12,000 keys": (lambda: json.dumps(dict.fromkeys(map(str, range(12_000)), 1)), JSON, 413),
    "12,000 columns of parquet": (lambda: parquet(**{f"c{i}": [1] for i in range(12_000)}), PARQUET, 413),
    "100 GB of one text": (lambda: same_text(1_000_000, 100_000), PARQUET, 413),
    "600 MB of zeros": (lambda: parquet(**dict.fromkeys(map("z{}".format, range(750)), ZEROS)), PARQUET, 413),
}


def empty_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(parquet())).slice(0, 0), out)
    return out.getvalue()


@pytest.fixture(scope="module")
def model(model_dir: Path) -> handler.ServedModel:
    return handler.model_fn(str(model_dir))


def answered(model: handler.ServedModel, body: bytes | str, content_type: str | None, accept: str = JSON) -> int:
    """Return the status; anything but an answer or a refusal in one line fails."""
    try:
        request = handler.input_fn(body, content_type)
        handler.output_fn(handler.predict_fn(request, model), accept)
    except handler.BaseInferenceToolkitError as error:
        refused = error
    else:
        return 200
    assert len(refused.message.splitlines()) == 1
    assert len(refused.message) < 800
    refused.message.encode()
    refused.phrase.encode("ascii")
    return int(refused.status_code)


@pytest.mark.parametrize("name", CASES)
def test_request(name: str, model: handler.ServedModel, ends: Callable[[str], None]) -> None:
    body, content_type, status = CASES[name]
    body = body() if callable(body) else body
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    assert answered(model, body, content_type) == status
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "1 GiB"
    ends(str(status))


@pytest.mark.parametrize("seed", range(40))
def test_flipped_parquet(seed: int, model: handler.ServedModel, ends: Callable[[str], None]) -> None:
    """Nothing says that the bytes of a request were others: an answer or a refusal, and no failure of the server."""
    rng = np.random.default_rng(seed)
    body = bytearray(parquet())
    for position in rng.integers(0, len(body), 1 + seed % 4):
        body[position] ^= 1 << int(rng.integers(8))
    assert answered(model, bytes(body), PARQUET) in (200, 400, 413)
    ends("400")


@pytest.mark.parametrize("accept", ["application/xml", "image/png", "text/html;q=1"])
def test_answer_that_cannot_be_written(accept: str, model: handler.ServedModel, ends: Callable[[str], None]) -> None:
    assert answered(model, js(), JSON, accept) == 406
    ends("406")


@pytest.mark.parametrize(
    ("variable", "value", "body", "content_type"),
    [
        ("TABSTEP_MAX_REQUEST_BYTES", "100", js(), JSON),
        ("TABSTEP_MAX_REQUEST_ROWS", "1", f"{js()}\n{js()}", LINES),
        ("TABSTEP_MAX_REQUEST_ROWS", "1", f"{line()}{ROW}\n", CSV),
        ("TABSTEP_MAX_REQUEST_COLUMNS", "8", line(), CSV),
        ("TABSTEP_MAX_REQUEST_EXPANSION", "20", parquet(), PARQUET),
    ],
)
def test_each_limit_can_be_set(
    variable: str,
    value: str,
    body: str,
    content_type: str,
    model: handler.ServedModel,
    monkeypatch: pytest.MonkeyPatch,
    ends: Callable[[str], None],
) -> None:
    assert answered(model, body, content_type) == 200
    monkeypatch.setenv(variable, value)
    with pytest.raises(handler.BaseInferenceToolkitError, match=rf"at most {value} are read: .*, or set {variable}"):
        handler.input_fn(body, content_type)
    ends("413")


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "1.5", "²"])
def test_a_limit_that_is_none(value: str, ends: Callable[[str], None]) -> None:
    with pytest.raises(UserError, match=r"^TABSTEP_MAX_REQUEST_ROWS: a positive integer is due, got "):
        Limits.from_environment({"TABSTEP_MAX_REQUEST_ROWS": value})
    ends("2")


def test_a_model_wider_than_the_limit(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABSTEP_MAX_REQUEST_COLUMNS", "3")
    with pytest.raises(UserError, match=r"the model has 10 columns: set TABSTEP_MAX_REQUEST_COLUMNS to 10$"):
        handler.model_fn(str(model_dir))
