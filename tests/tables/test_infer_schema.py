from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tabstep.errors import UserError
from tabstep.tables.infer_schema import Declared, infer_schema, schema_table
from tabstep.tables.source import ParquetSource, open_source


def source(tmp_path: Path, columns: dict[str, Any], name: str = "a.parquet") -> ParquetSource:
    pq.write_table(pa.table(columns), tmp_path / name)
    return open_source(str(tmp_path), split="train")


@pytest.fixture
def plain(tmp_path: Path) -> ParquetSource:
    return source(
        tmp_path,
        {"row_id": [7, 8, 9], "age": [1, 2, 3], "job": ["a", "b", "a"], "old": [True] * 3, "Target": [0, 1, 0]},
    )


def roles(found: tuple[Any, ...]) -> dict[str, str]:
    return {row.column: row.role for row in found[2]}


def test_everything_is_inferred_and_says_why(plain: ParquetSource) -> None:
    schema, task, rows = infer_schema(plain, Declared())
    assert schema.to_dict() == {
        "id": "row_id",
        "label": ["Target"],
        "numeric": ["age"],
        "categorical": ["job", "old"],
        "parse": {},
    }
    assert task is None
    assert [row.why for row in rows] == [
        "its name, and every value differs",
        "type int64",
        "type string",
        "type bool",
        "its name; schema.label is not set",
    ]


def test_declared_lists_are_exact_and_in_their_own_order(plain: ParquetSource) -> None:
    schema, _, _ = infer_schema(plain, Declared(label="Target", categorical=["old", "age"]))
    assert (schema.numeric, schema.categorical) == ((), ("old", "age"))
    found = infer_schema(plain, Declared(label="Target", numeric=["age"], categorical=[]))
    assert (found[0].numeric, found[0].categorical) == (("age",), ())
    assert roles(found)["job"] == "left out"
    found = infer_schema(plain, Declared(label="Target", numeric=[]))
    assert (found[0].numeric, found[0].categorical) == ((), ("job", "old"))
    assert found[2][1].why == "schema.numeric does not name it"


def test_drop_and_several_labels(plain: ParquetSource) -> None:
    found = infer_schema(plain, Declared(label=["old", "Target"], drop=["job"]))
    assert found[0].label == ("old", "Target")
    assert found[1] == "multilabel"
    assert roles(found)["job"] == "left out"


@pytest.mark.parametrize("columns", [{"user_id": [1, 1]}, {"user_id": [1, None]}, {"user_id": [1.0, 2.0]}])
def test_a_name_alone_is_no_id(tmp_path: Path, columns: dict[str, Any]) -> None:
    assert infer_schema(source(tmp_path, columns | {"y": [0, 1]}), Declared())[0].id is None


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1"])
def test_row_numbers_of_pandas_are_no_feature(tmp_path: Path, name: str) -> None:
    columns: dict[str, Any] = {"age": [1, 2], "y": [0, 1]}
    found = infer_schema(source(tmp_path, {name: [0, 1], **columns}), Declared())
    assert roles(found) == {name: "left out", "age": "numeric", "y": "label"}
    assert found[0].features == ("age",)
    assert infer_schema(source(tmp_path, {name: [0, 1], **columns}), Declared(numeric=[name]))[0].numeric == (name,)
    assert name in infer_schema(source(tmp_path, {name: ["a", "b"], **columns}), Declared())[0].features


def test_of_two_ids_none_is_a_feature(tmp_path: Path) -> None:
    columns = {"user_id": [1, 2], "id": ["a", "b"], "age": [3, 4], "y": [0, 1]}
    found = infer_schema(source(tmp_path, columns), Declared())
    assert (found[0].id, found[0].features, roles(found)["id"]) == ("user_id", ("age",), "left out")
    found = infer_schema(source(tmp_path, columns), Declared(id="id"))
    assert (found[0].id, found[0].features, roles(found)["user_id"]) == ("id", ("age",), "left out")
    assert infer_schema(source(tmp_path, columns), Declared(id="id", numeric=["user_id"]))[0].numeric == ("user_id",)


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            {"label": "target", "numeric": ["job", "agee"], "drop": ["age", "age"]},
            [
                "schema.label: data.train has no column 'target': did you mean 'Target'?",
                "schema.numeric: column 'job' holds text (string): name it in schema.categorical",
                "schema.numeric: data.train has no column 'agee': did you mean 'age'?",
                "schema.drop: column 'age' is left out already: name it once",
            ],
        ),
        ({"label": "Target", "numeric": ["Target"]}, ["schema.numeric: column 'Target' is label already"]),
        ({"label": ["Target", "old"], "task": "binary"}, ["schema.task: binary has one label column"]),
        ({"drop": ["Target"]}, ["schema.label: is missing: name the column to predict; choose from: row_id, age"]),
    ],
)
def test_mistakes_are_named_all_at_once(plain: ParquetSource, settings: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        infer_schema(plain, Declared(**settings))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(message)


def test_two_columns_that_could_be_the_label(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"several columns could be it: y, label"):
        infer_schema(source(tmp_path, {"y": [1], "label": [1], "x": [1]}), Declared())


def test_types_without_a_meaning_are_refused_together_with_the_override_that_helps(tmp_path: Path) -> None:
    table = source(tmp_path, {"y": [1], "tags": [["a"]], "a.b": [b"x"], "none": pa.nulls(1), "x": [1.5]})
    with pytest.raises(UserError, match=r"""'schema\.drop=\[tags,"a\.b"\]'$"""):
        infer_schema(table, Declared())
    found = infer_schema(table, Declared(drop=["tags", "a.b"]))
    assert found[0].features == ("x",)
    assert roles(found)["none"] == "left out"
    assert infer_schema(table, Declared(numeric=["x"], categorical=[]))[0].features == ("x",)


def test_columns_that_differ_between_files_may_be_left_out(tmp_path: Path) -> None:
    source(tmp_path, {"y": [0], "x": [1.0], "k": [1]})
    table = source(tmp_path, {"y": [1], "x": [1.0], "k": ["1"]}, "b.parquet")
    with pytest.raises(UserError, match=r"column 'k' is int64 in a.parquet and string in b.parquet.*schema.drop=\[k\]"):
        infer_schema(table, Declared())
    with pytest.raises(UserError, match=r"column 'k' is int64 in a.parquet"):
        infer_schema(table, Declared(categorical=["k"]))
    assert infer_schema(table, Declared(drop=["k"]))[0].features == ("x",)


def shown(rows: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(schema_table(rows))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_shows_hostile_names_as_they_are_and_no_control_characters(tmp_path: Path) -> None:
    found = infer_schema(source(tmp_path, {"y": [0], "[red]x[/red]": [1], "\x1b[31m": [1]}), Declared())
    text = shown(found[2])
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_five_thousand_columns_make_a_short_table(tmp_path: Path) -> None:
    found = infer_schema(source(tmp_path, {f"c{i}": [i] for i in range(5000)} | {"y": [0]}), Declared())
    assert len(found[0].numeric) == 5000
    assert shown(found[2]).count("\n") < 40
