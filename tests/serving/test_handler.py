"""A request in any form gives the predictions of the table it came from, and a wrong one says what is wrong."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from csv import DictWriter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import tabstep
from tabstep.schema import Schema
from tabstep.serving import handler as inference


@pytest.fixture(scope="module")
def model(model_dir: Path) -> inference.ServedModel:
    return inference.model_fn(str(model_dir))


def ask(model: inference.ServedModel, body: bytes | str, content_type: str, accept: str = "*/*") -> bytes:
    request = inference.input_fn(body, content_type)
    return inference.output_fn(inference.predict_fn(request, model), accept)[0]


def refusal(model: inference.ServedModel, body: bytes | str, content_type: str, accept: str = "*/*") -> Any:
    with pytest.raises(inference.RefusedError) as caught:
        ask(model, body, content_type, accept)
    return caught.value


def plain(value: Any) -> Any:
    """Return a value of a table as a client would write it in JSON."""
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def as_records(table: pa.Table) -> list[dict[str, Any]]:
    return [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]


def as_csv(table: pa.Table, *, header: bool = True) -> bytes:
    columns = {
        name: pa.array([plain(value) for value in table.column(name).to_pylist()]) for name in table.column_names
    }
    out = io.BytesIO()
    csv.write_csv(pa.table(columns), out, csv.WriteOptions(include_header=header, quoting_style="needed"))
    return out.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def expected(model_dir: Path, table: pa.Table) -> pa.Table:
    return tabstep.load(model_dir).predict(table)


@pytest.fixture(scope="module", params=["csv", "csv shuffled", "json", "instances", "lines", "parquet"])
def body(request: pytest.FixtureRequest, table: pa.Table) -> tuple[bytes, str]:
    rows = as_records(table)
    return {
        "csv": lambda: (as_csv(table), "text/csv; charset=utf-8"),
        "csv shuffled": lambda: (as_csv(table.select(sorted(table.column_names))), "text/csv"),
        "json": lambda: (json.dumps(rows).encode(), "application/json"),
        "instances": lambda: (json.dumps({"instances": rows}).encode(), "application/json"),
        "lines": lambda: ("\n".join(map(json.dumps, rows)).encode() + b"\n", "application/x-ndjson"),
        "parquet": lambda: (as_parquet(table), "application/x-parquet"),
    }[request.param]()


def test_every_form_gives_the_same_probabilities(
    body: tuple[bytes, str], model: inference.ServedModel, model_dir: Path, table: pa.Table
) -> None:
    answer = inference.predict_fn(inference.input_fn(*body), model)
    truth = expected(model_dir, table)
    np.testing.assert_array_equal(answer.probabilities[:, 1], truth["prob_yes"].to_numpy())
    assert answer.table["prediction"].to_pylist() == truth["prediction"].to_pylist()
    assert answer.ids == table["row_id"].to_pylist()


def test_every_answer_says_the_same(model: inference.ServedModel, model_dir: Path, table: pa.Table) -> None:
    truth = expected(model_dir, table)
    labels, chances = truth["prediction"].to_pylist(), truth["prob_yes"].to_pylist()
    version = inference.model_version(model_dir)

    def answer(accept: str) -> bytes:
        return ask(model, as_parquet(table), "application/x-parquet", accept)

    whole = json.loads(answer("application/json"))
    assert whole["model_version"] == version
    lines = [json.loads(line) for line in answer("application/jsonlines").split(b"\n")]
    assert lines == [{**record, "model_version": version} for record in whole["predictions"]]
    assert [line["prediction"] for line in lines] == labels
    assert [np.float32(line["probabilities"]["yes"]) for line in lines] == chances
    tables = [csv.read_csv(io.BytesIO(answer("text/csv"))), pq.read_table(io.BytesIO(answer("application/x-parquet")))]
    for found in tables:
        assert found.column_names == ["row_id", "prob_no", "prob_yes", "prediction", "model_version"]
        assert found["prediction"].to_pylist() == labels
        np.testing.assert_array_equal(found["prob_yes"].to_numpy().astype(np.float32), chances)
        assert set(found["model_version"].to_pylist()) == {version}


def test_csv_without_header_is_answered_without_one(
    model: inference.ServedModel, table: pa.Table, schema: Schema
) -> None:
    features = table.select(schema.features)
    lines = ask(model, as_csv(features, header=False), "text/csv", "text/csv").decode().splitlines()
    named = ask(model, as_csv(features), "text/csv", "text/csv").decode().splitlines()
    assert len(lines) == table.num_rows
    assert named == ["prob_no,prob_yes,prediction,model_version", *lines]
    # a batch transform job sends a file in pieces: a row alone comes out as in the whole, but for rounding
    one = ask(model, as_csv(features.slice(7, 1), header=False), "text/csv; header=absent", "text/csv").decode()
    assert [float(cell) for cell in one.split(",")[:2]] == pytest.approx(
        [float(cell) for cell in lines[7].split(",")[:2]], abs=1e-6
    )
    assert one.split(",")[2:] == lines[7].split(",")[2:]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_other_tasks(
    task: str, tmp_path: Path, table: pa.Table, save_model: Callable[[Path, pa.Table, Schema], Path]
) -> None:
    table = table.slice(0, 120)
    rng = np.random.default_rng(0)
    if task == "multiclass":
        table = table.append_column("target", pa.array(rng.integers(1, 4, 120)))
        label: tuple[str, ...] = ("target",)
    else:
        label = ("a", "b")
        for name in label:
            table = table.append_column(name, pa.array(rng.integers(0, 2, 120)))
    schema = Schema(label=label, numeric=("age",), categorical=("city",))
    directory = save_model(tmp_path / task, table, schema)
    model = inference.model_fn(str(directory))
    rows = json.loads(ask(model, as_csv(table.select(["age", "city"])), "text/csv"))["predictions"]
    truth = expected(directory, table.select(["age", "city"]))
    if task == "multiclass":
        assert [row["prediction"] for row in rows] == truth["prediction"].to_pylist()
        assert set(rows[0]["probabilities"]) == {"1", "2", "3"}
    else:
        assert [row["prediction"]["b"] for row in rows] == truth["prediction_b"].to_pylist()
        assert [np.float32(row["probabilities"]["a"]) for row in rows] == truth["prob_a"].to_pylist()


def one_row(table: pa.Table, **changes: Any) -> dict[str, Any]:
    return {**as_records(table.slice(0, 1))[0], **changes}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("age", "old", "row 1: column 'age': a number is due, got 'old'"),
        ("age", True, "a number is due, got True"),
        ("age", [1], "a number is due, got [1]"),
        ("member", 1, "true or false is due, got 1"),
        ("joined", "yesterday", "a date such as 2026-01-31 is due, got 'yesterday'"),
        ("joined", 3, "a date such as"),
        ("shop", 7, "text is due, got 7"),
        ("shop", "\ud800", "not Unicode"),
        ("city", {"a": 1}, "text is due"),
    ],
)
def test_wrong_value_is_named(
    column: str, value: Any, reason: str, model: inference.ServedModel, table: pa.Table
) -> None:
    error = refusal(model, json.dumps([one_row(table, **{column: value})]), "application/json")
    assert error.status_code == 400
    assert reason in error.message
    assert "\n" not in error.phrase
    assert error.phrase.isascii()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "reason"),
    [
        (b"<a/>", "application/xml", 415, "text/csv, application/json, application/jsonlines, application/x-parquet"),
        (b"{}", None, 415, "content type None"),
        (b"", "text/csv", 400, "the body is empty"),
        (b"\n\n", "text/csv", 400, "holds no rows"),
        (b"age,city\n", "text/csv", 400, "a header and no rows"),
        (b"age,city\n1\n", "text/csv", 400, "the body is not CSV"),
        (b"1,2,3\n", "text/csv", 400, "3 fields where a CSV without a header has these"),
        (b"age,cty\n1,a\n", "text/csv", 400, "column 'income' is missing"),
        (b"\xff\xfe", "text/csv", 400, "byte 0 of the body is not utf-8"),
        (b"a", "text/csv; charset=klingon", 415, "charset 'klingon'"),
        (b"a", "text/csv; header=maybe", 400, "header=present or header=absent"),
        (b"{", "application/json", 400, "the body is not JSON"),
        (b"[]", "application/json", 400, "no rows"),
        (b"[1]", "application/json", 400, "row 1 is a number"),
        (b'"x"', "application/json", 400, "the body is text"),
        (b"[" * 100_000, "application/json", 400, "nested too deeply"),
        (b'{"agee": 1}', "application/json", 400, "row 1: column 'age' is missing: did you mean 'agee'?"),
        (b'{"age": 1}\n{\n', "application/jsonlines", 400, "line 2 is not JSON"),
        (b'{"age": 1}\nnull\n', "application/jsonlines", 400, "line 2 is null"),
        (b"PAR1", "application/x-parquet", 400, "the body is not parquet"),
        (as_parquet(pa.table({"age": [1.0]})), "application/x-parquet", 400, "is missing"),
        (as_parquet(pa.table({"age": pa.array([], pa.float64())})), "application/x-parquet", 400, "no rows"),
    ],
)
def test_malformed_request(
    body: bytes, content_type: str, status: int, reason: str, model: inference.ServedModel
) -> None:
    error = refusal(model, body, content_type)
    assert error.status_code == status
    assert reason in error.message


def test_row_of_a_wrong_value_is_found_in_csv(model: inference.ServedModel, table: pa.Table) -> None:
    rows = as_records(table)
    rows[230]["age"] = "x" * 500
    buffer = io.StringIO()
    writer = DictWriter(buffer, table.column_names)  # a quoted newline stands in some of them
    writer.writeheader()
    writer.writerows(rows)
    error = refusal(model, buffer.getvalue(), "text/csv")
    assert error.message.startswith("row 231: column 'age': a number is due, got 'xxx")
    assert len(error.message) < 200


def test_unacceptable_answer(model: inference.ServedModel, table: pa.Table) -> None:
    error = refusal(model, as_parquet(table), "application/x-parquet", "image/png")
    assert (error.status_code, "image/png" in error.message) == (406, True)


@pytest.mark.parametrize(("form", "written"), [("number", "${:,.2f}"), ("comma", "{:.2f}")])
def test_amounts_that_train_had_as_text_may_be_numbers_in_json(
    save_model: Callable[[Path, pa.Table, Schema], Path], table: pa.Table, tmp_path: Path, form: str, written: str
) -> None:
    numbers = table["income"].to_pylist()
    texts = [written.format(value + 0.25) for value in numbers]
    texts = texts if form == "number" else [text.replace(".", ",") for text in texts]
    table = table.select(["age", "label"]).append_column("amount", pa.array(texts))
    schema = Schema(label=("label",), numeric=("age", "amount"), categorical=(), parse=(("amount", form),))
    model = inference.model_fn(str(save_model(tmp_path / form, table, schema)))
    rows = table.slice(0, 5).to_pylist()
    expected = ask(model, json.dumps(rows), "application/json")
    for amounts in (numbers[:5], [*numbers[:4], None]):
        records = [{**row, "amount": None if n is None else n + 0.25} for row, n in zip(rows, amounts, strict=True)]
        answer = json.loads(ask(model, json.dumps(records), "application/json"))
        kept = 5 if amounts[-1] is not None else 4
        assert answer["predictions"][:kept] == json.loads(expected)["predictions"][:kept]
    mixed = [{**rows[0], "amount": 3}, rows[1]]
    assert "column 'amount'" in str(refusal(model, json.dumps(mixed), "application/json"))


def test_text_in_place_of_a_category_of_numbers_in_parquet(model: inference.ServedModel, table: pa.Table) -> None:
    index = table.column_names.index("Größe, cm")
    wrong = table.set_column(index, "Größe, cm", table["Größe, cm"].cast(pa.string()))
    error = refusal(model, as_parquet(wrong), "application/x-parquet")
    assert (error.status_code, "a number is due as in train" in error.message) == (400, True)


@pytest.mark.parametrize(
    ("name", "other", "due"),
    [
        ("joined", pa.timestamp("ms"), "date"),
        ("local", pa.timestamp("ms", tz="UTC"), "timestamp"),
        ("seen", pa.timestamp("us"), "zoned timestamp"),
        ("waited", pa.int64(), "duration"),
        ("flag", pa.int8(), "boolean"),
        ("opened", pa.int64(), "time"),
        ("birthday", pa.timestamp("ms"), "date"),
    ],
)
def test_parquet_of_another_kind_is_refused(
    name: str, other: pa.DataType, due: str, model: inference.ServedModel, table: pa.Table
) -> None:
    column = table.column_names.index(name)
    changed = table.set_column(column, name, table[name].cast(other))
    caught = refusal(model, as_parquet(changed), "application/x-parquet")
    assert caught.status_code == 400
    assert f"column {name!r} has type {other}, a {due} is due as in train" in caught.message
