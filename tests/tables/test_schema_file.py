from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tabstep.errors import UserError
from tabstep.schema import Schema
from tabstep.tables.infer_schema import Declared, Row
from tabstep.tables.schema_file import schema_yaml, write_schema_file

STATED = Declared(classes=["no", "yes"])


def read(text: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(text), resolve=True)


def test_the_proposal_is_a_file_of_the_group_schema(tmp_path: Path) -> None:
    columns = {"id": [1, 2], "x": [1.5, 2.5], "job": ["a", "b"], "none": pa.nulls(2), "y": ["no", "yes"]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    path, rows = write_schema_file(str(tmp_path / "t.parquet"), "mine", tmp_path / "conf" / "schema", STATED)
    assert path == tmp_path / "conf" / "schema" / "mine.yaml"
    assert len(rows) == 5
    text = path.read_text(encoding="utf-8")
    assert '  - "x"  # double\n' in text
    assert read(text) == {
        "id": "id",
        "label": "y",
        "numeric": ["x"],
        "categorical": ["job"],
        "drop": ["none"],
        "weight": None,
        "parse": {},
        "task": "auto",
        "classes": ["no", "yes"],
    }
    assert Declared(**read(text)).numeric == ["x"]


def test_text_that_means_a_number_is_read_and_unique_text_is_no_feature(tmp_path: Path) -> None:
    columns = {
        "price": [f"${index},000.50" for index in range(30)],
        "ref": [f"r{index}" for index in range(30)],
        "note": [f"note {index}" for index in range(30)],
        "job": ["a", "b"] * 15,
        "y": ["no", "yes"] * 15,
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    path, rows = write_schema_file(str(tmp_path / "t.parquet"), "mine", tmp_path, STATED)
    proposal = read(path.read_text(encoding="utf-8"))
    assert (proposal["id"], proposal["numeric"], proposal["categorical"]) == ("ref", ["price"], ["job"])
    assert (proposal["drop"], proposal["parse"]) == (["note"], {"price": "number"})
    assert [row.why for row in rows] == [
        "text of the format number: schema.parse reads it",
        "every value differs",
        "every value differs, and there is an id",
        "type string",
        "its name; schema.label is not set",
    ]
    assert rows[3].facts is not None
    assert rows[3].facts.examples == ("a", "b")


def test_a_proposal_from_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x;y\n1;no\n2;yes\n", encoding="utf-8")
    path, _ = write_schema_file(str(tmp_path / "t.csv"), "mine", tmp_path, STATED)
    assert read(path.read_text(encoding="utf-8"))["numeric"] == ["x"]


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,no\n2,yes\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("by hand", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        write_schema_file(str(tmp_path / "t.csv"), "mine", tmp_path, STATED)
    write_schema_file(str(tmp_path / "t.csv"), "mine", tmp_path, STATED, overwrite=True)
    assert "by hand" not in (tmp_path / "mine.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", "-x"])
def test_names_that_are_no_option_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="use letters, digits"):
        write_schema_file(str(tmp_path / "t.csv"), name, tmp_path, STATED)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=3, unique=True))
@example(["a", "\\${b}", "\\\\${c}\\"])
def test_any_name_survives_the_file(names: list[str]) -> None:
    label, *features = names
    schema = Schema(label=(label,), numeric=tuple(features), categorical=())
    rows = [Row(column=name, type="struct<a\nb>", role="numeric", why="") for name in names]
    found = read(schema_yaml(schema, rows, task=None, classes=None))
    assert (found["label"], found["numeric"]) == (label, features)
