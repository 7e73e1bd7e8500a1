"""Bad input through the public commands: each case is handled, or refused with one clear line and its exit code."""

from __future__ import annotations

import datetime
import decimal
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.commands import ROWS, Commands, Fault, Tables, flipped, stored, table, tables, with_column, write

Change = Callable[[Tables], object]


def put(name: str, values: Callable[[int, int], Any], *splits: str) -> Change:
    """Return a change of one column: ``values`` gets the number of rows and a number of the split."""

    def change(found: Tables) -> None:
        for number, split in enumerate(ROWS):
            if split in (splits or ROWS):
                found[split] = with_column(found[split], name, values(ROWS[split], number))

    return change


def drop(name: str, *splits: str) -> Change:
    return lambda found: [found.update({split: found[split].drop_columns(name)}) for split in splits or ROWS]


def names(renamed: Mapping[str, str]) -> Change:
    def change(found: Tables) -> None:
        for split in ROWS:
            found[split] = found[split].rename_columns([renamed.get(name, name) for name in found[split].column_names])

    return change


def several(*changes: Change) -> Change:
    return lambda found: [change(found) for change in changes]


def replace(split: str, content: Callable[[pa.Table], Any]) -> Change:
    return lambda found: found.update({split: content(found[split])})


def without(*splits: str) -> Change:
    return lambda found: [found.pop(split) for split in splits]


def nothing(_: Tables) -> None:
    pass


def repeat(*values: Any) -> Callable[[int, int], Any]:
    return lambda rows, _: [values[row % len(values)] for row in range(rows)]


def nulls(dtype: pa.DataType) -> Callable[[int, int], Any]:
    return lambda rows, _: pa.nulls(rows, dtype)


def not_utf8(content: pa.Table) -> pa.Table:
    broken = pa.array([b"\xff\xfe"] * content.num_rows, pa.binary())
    return with_column(content, "city", pa.Array.from_buffers(pa.string(), content.num_rows, broken.buffers()))


def halves(change: Callable[[pa.Table], pa.Table]) -> Change:
    """Return a change that cuts train into two files, the second of them changed."""
    return replace("train", lambda t: {"a.parquet": t.slice(0, 50), "b.parquet": change(t.slice(50))})


# What is wrong, the overrides, and how each line begins that is said.
REFUSED: dict[str, tuple[Change, list[str], list[str]]] = {
    "a missing directory": (nothing, ["data.path=nowhere"], ["data.path: no such directory: nowhere: "]),
    "a missing file": (
        nothing,
        ["data.path=null", "data.train=data/train/trian.parquet"],
        ["data.train: no such file or directory: data/train/trian.parquet: did you mean 'train.parquet'?"],
    ),
    "no file of a glob": (
        nothing,
        ["data.path=null", "data.train='data/t*/x*.parquet'"],
        ["data.train: no file matches data/t*/x*.parquet"],
    ),
    "a file for the directory": (
        nothing,
        ["data.path=data/val/val.parquet"],
        ["data.path: data/val/val.parquet is a file, a directory is due"],
    ),
    "no train split": (without("train"), [], ["data.path: data holds neither train/ nor train.parquet"]),
    "an empty file": (replace("train", lambda t: b""), [], ["data.train: train.parquet: is an empty file (0 bytes)"]),
    "a truncated file": (
        replace("val", lambda t: bytes(stored(t)[:-40])),
        [],
        ["data.val: val.parquet: is truncated"],
    ),
    "another format": (
        replace("test", lambda t: b"age,label\n20,yes\n30,no\n"),
        [],
        ["data.test: test.parquet: is not a parquet file"],
    ),
    "no rows": (replace("test", lambda t: t.slice(0, 0)), [], ["data.test: data/test holds no rows"]),
    "a flipped bit": (
        replace("train", lambda t: flipped(stored(t), 60)),
        [],
        ["data.train: train.parquet: row group 0, column 'row_id' is damaged: "],
    ),
    "text that is not UTF-8": (
        replace("train", not_utf8),
        [],
        ["data.train: train.parquet: row group 0, column 'city' is damaged: Invalid UTF8"],
    ),
    "a column that a split lacks": (drop("age", "val"), [], ["data.val: column 'age': is missing: "]),
    "columns that two splits lack": (
        several(drop("age", "val"), drop("label", "test")),
        [],
        ["data.val: column 'age': is missing: ", "data.test: column 'label': the label is missing: "],
    ),
    "a column twice": (
        replace("test", lambda t: pa.Table.from_arrays([*t.columns, t["age"]], names=[*t.column_names, "age"])),
        [],
        ["data.test: test.parquet: column 'age' stands 2 times: rename or drop one"],
    ),
    "another type in val": (
        put("age", repeat("1", "2"), "val"),
        [],
        ["data.val: column 'age': is string, and double in train: write both with one type"],
    ),
    "another type of label": (
        put("label", repeat(0, 1), "test"),
        [],
        ["data.test: column 'label': is int64, and string in train"],
    ),
    "times with and without a zone": (
        several(
            put("day", lambda rows, _: pa.array([0] * rows, pa.timestamp("ms"))),
            put("day", lambda rows, _: pa.array([0] * rows, pa.timestamp("ms", "UTC")), "val"),
        ),
        [],
        ["data.val: column 'day': is timestamp[ms, tz=UTC], and timestamp[ms] in train"],
    ),
    "a column that some files lack": (
        halves(lambda t: t.drop_columns("age")),
        [],
        ["data.train: column 'age' is missing in b.parquet, other files have it: "],
    ),
    "another type in some files": (
        halves(lambda t: with_column(t, "age", ["x"] * 50)),
        [],
        ["data.train: column 'age' is double in a.parquet and string in b.parquet: "],
    ),
    "null labels": (
        put("label", lambda rows, _: ["yes", None, *["no"] * (rows - 2)], "train"),
        [],
        ["data.train: label 'label': 1 of 100 are missing, first in row 1: remove those rows"],
    ),
    "null labels, unchecked": (
        put("label", lambda rows, _: ["yes", None, *["no"] * (rows - 2)], "test"),
        ["data.checks=off"],
        ["data.test: column 'label' is null in row 1: drop the rows without a label"],
    ),
    "NaN labels": (
        several(
            put("label", repeat(0.0, 1.0)),
            put("label", lambda rows, _: [0.0, 1.0, np.nan] + [1.0] * (rows - 3), "train"),
        ),
        [],
        ["data.train: label 'label': 1 of 100 are missing, first in row 2"],
    ),
    "infinite labels": (
        several(put("label", repeat(0.0, 1.0)), put("label", repeat(0.0, np.inf), "train")),
        [],
        ["data.train: label 'label': inf in row 1 is no integer: a label is a class; cut a quantity into classes"],
    ),
    "a quantity for a label": (
        put("label", lambda rows, _: np.linspace(0, 1, rows)),
        [],
        ["data.train: label 'label': 0.010101010101010102 in row 1 is no integer: a label is a class"],
    ),
    "labels without a value": (
        put("label", nulls(pa.string()), "train"),
        [],
        ["data.train: label 'label': 100 of 100 are missing, first in row 0"],
    ),
    "labels of no type": (
        put("label", nulls(pa.null())),
        [],
        ["schema.label: column 'label': type null is empty (every value is null)"],
    ),
    "unseen labels": (
        put("label", repeat("yes", "no", "maybe"), "test"),
        [],
        ["data.test: label 'label': 'maybe' not in train (13 rows, first in row 2): remove those rows or split again"],
    ),
    "unseen labels, unchecked": (
        put("label", repeat("yes", "no", "yess"), "val"),
        ["data.checks=warn"],
        ["data.val: column 'label', row 2: 'yess' is no class: did you mean 'yes'?"],
    ),
    "a single class": (
        put("label", repeat("yes"), "train"),
        [],
        ["data.train: label 'label': every row is 'yes': at least two classes are needed"],
    ),
    "a single class, unchecked": (
        put("label", repeat("yes")),
        ["data.checks=off"],
        ["data.train: column 'label' has a single class ('yes')"],
    ),
    "an id for a label": (
        replace("train", lambda t: table(1200)),
        ["schema.label=row_id"],
        ["data.train: label 'row_id': more than 1,000 classes: is it an id or a quantity?"],
    ),
    "a date for a label": (
        put("label", repeat(datetime.date(2020, 1, 1), datetime.date(2020, 1, 2))),
        [],
        ["column 'label' has type date32[day]: labels are strings, integers or booleans"],
    ),
    "a nested label": (put("label", repeat([1])), [], ["schema.label: column 'label': type list<element: int64> is"]),
    "nested and binary columns": (
        several(put("a", repeat({"b": 1})), put("c d", repeat(b"1"))),
        [],
        [
            "schema: column 'a': type struct<b: int64> is nested (2 columns are like it): "
            "leave out with 'schema.drop=[a,\"c d\"]'"
        ],
    ),
    "a nested id": (
        put("row_id", repeat([1])),
        ["schema.id=row_id"],
        ["schema.id: column 'row_id': type list<element: int64> is nested"],
    ),
    "no label": (
        several(drop("label"), put("outcome", repeat(0, 1))),
        ["schema.label=null"],
        ["schema.label: is missing: name the column to predict; choose from: row_id, age, income, city, outcome"],
    ),
    "names that do not exist": (
        nothing,
        ["schema.label=labl", "schema.id=rowid", "schema.numeric=[age,incme]"],
        [
            "schema.id: data.train has no column 'rowid': did you mean 'row_id'?",
            "schema.label: data.train has no column 'labl': did you mean 'label'?",
            "schema.numeric: data.train has no column 'incme': did you mean 'income'?",
        ],
    ),
    "text for a number": (nothing, ["schema.numeric=[city]"], ["schema.numeric: column 'city' holds text (string)"]),
    "no feature": (nothing, ["schema.numeric=[]", "schema.categorical=[]"], ["schema: no feature column is left"]),
    "an undeclared class": (
        nothing,
        ["schema.classes=[no,yess]"],
        ["data.train: column 'label', row 0: 'yes' is not in schema.classes: did you mean 'yess'?"],
    ),
    "rows of train in test": (
        lambda found: found.update(test=found["train"]),
        ["schema.id=row_id"],
        ["data.test: id 'row_id': 100 of 100 ids are in train too: split by id"],
    ),
    "too few rows to hold some out": (
        several(without("val"), replace("train", lambda t: t.slice(0, 2))),
        [],
        ["data.val_share: 0.2 of 2 rows leaves a split without rows"],
    ),
    "a label column that is neither 0 nor 1": (
        several(put("a", repeat(0, 1)), put("b", repeat(0, 1, 2))),
        ["schema.label=[a,b]", "schema.drop=[label]"],
        ["data.train: column 'b', row 2: 2 where 0 or 1 is due: a multilabel task has 0/1 columns"],
    ),
    "weights of other classes": (
        nothing,
        ["loss.class_weights=[1,2,3]"],
        ["loss.class_weights: 3 weights for 2 classes: "],
    ),
    "a learning rate that diverges": (
        nothing,
        ["optimizer.lr=1e30", "trainer.gradient_clip_val=null", "scheduler=none", "trainer.max_epochs=5"],
        ["training: the loss is "],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(commands: Commands, tmp_path: Path, case: str) -> None:
    change, overrides, lines = REFUSED[case]
    found = tables()
    change(found)
    write(tmp_path / "data", found)
    ended = commands.train(tmp_path, *overrides)
    assert ended.code == 2, ended.err
    assert len(ended.err.splitlines()) == len(lines), ended.err
    for said, line in zip(ended.said, lines, strict=True):
        assert said.startswith(line)
    assert not (tmp_path / "out" / "model").exists()


ODD_NAMES = [
    *["keys", "type", "train", "self", "forward", "values", "a.b", "c", "", "💥", "é", "x" * 200, "a=b", "a b", "[x]"],
    *["{a}", "'q\"", "\\", "\x1b[31m", "\n", "\t", "../../etc", "${oc.env:HOME}", "0", "null", "true", "label_"],
    *["prob_yes", "prediction", "expected", "age is missing", "Age"],
]


def odd_names(found: Tables) -> None:
    for split, rows in ROWS.items():
        for index, name in enumerate(ODD_NAMES):
            rng = np.random.default_rng(index)
            values = rng.normal(size=rows) if index % 2 else rng.choice(["a", "b"], rows).tolist()
            found[split] = with_column(found[split], name, values)


ODD_VALUES = several(
    put("some", lambda rows, _: np.resize([np.nan, np.inf, -np.inf, 1.0, 2.0], rows)),
    put("all nan", lambda rows, _: np.full(rows, np.nan)),
    put("all inf", lambda rows, _: np.full(rows, np.inf)),
    put("huge", lambda rows, _: np.resize([1.7e308, -1.7e308, 3.0], rows)),
    put("tiny", lambda rows, _: np.resize([5e-324, 1e-310, 0.0], rows)),
    put("large", lambda rows, _: np.arange(rows) + 2**60),
    put("no number", nulls(pa.float64())),
    put("no text", nulls(pa.string())),
    put("no type", nulls(pa.null())),
    put("one number", repeat(1.0)),
    put("one text", repeat("a")),
    put("empty text", repeat("", None, " ")),
    put("age", nulls(pa.float64()), "train"),
    put("city", nulls(pa.null()), "val"),
)

ODD_TYPES = several(
    put("decimal", repeat(decimal.Decimal("1.5"), None)),
    put("day", repeat(datetime.date(2020, 1, 1), None)),
    put("instant", repeat(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), None)),
    put("time", repeat(datetime.time(1, 2), None)),
    put("duration", repeat(datetime.timedelta(1), None)),
    put("half", lambda rows, _: pa.array(np.arange(rows).astype(np.float16))),
    put("large text", lambda rows, _: pa.array(["a"] * rows, pa.large_string())),
    put("view", lambda rows, _: pa.array(["a"] * rows, pa.string_view())),
    put("byte", lambda rows, _: pa.array([1] * rows, pa.uint8())),
    put("flag", repeat(True, None, False)),
    put("codes", lambda rows, _: pa.array(["a", None] * (rows // 2)).dictionary_encode()),
    put("numbers", lambda rows, _: pa.array([1.5, 2.5] * (rows // 2)).dictionary_encode()),
    # the same columns in other widths, another order and beside one more
    put("byte", lambda rows, _: pa.array([1, None] * (rows // 2), pa.int64()), "val"),
    put("view", lambda rows, _: pa.array(["a"] * rows).dictionary_encode(), "val"),
    put("age", lambda rows, _: pa.array(np.ones(rows, np.float32)), "val"),
    replace("val", lambda t: t.select(t.column_names[::-1])),
    put("more", repeat([1]), "val"),
)


def other_dictionaries(content: pa.Table) -> bytes:
    """Write two row groups whose dictionaries give the codes another meaning."""
    dtype = pa.dictionary(pa.int8(), pa.string())
    buffer = io.BytesIO()
    schema = content.schema.set(content.schema.get_field_index("city"), pa.field("city", dtype))
    with pq.ParquetWriter(buffer, schema) as writer:
        for half, cities in ((content.slice(0, 50), ["Bonn", "Ulm"]), (content.slice(50), ["Köln", "Bonn"])):
            codes = pa.array(cities * 25).dictionary_encode().cast(dtype)
            writer.write_table(with_column(half, "city", codes))
    return buffer.getvalue()


FLAGS = several(
    put("a", lambda rows, number: np.random.default_rng(number).integers(0, 2, rows)),
    put("b", repeat(True, False)),
    put("c", repeat(0.0, 1.0, 1.0)),
    put("d", repeat(1), "val"),
    put("d", repeat(1, 0), "train", "test"),
    drop("label"),
)

# What is odd, the overrides, and what is said of it on standard output.
HANDLED: dict[str, tuple[Change, list[str], list[str]]] = {
    "values": (
        ODD_VALUES,
        ["schema.id=row_id"],
        [
            r"column 'some': \d+ infinite values are handled as missing",
            r"column 'one number': every value is 1: it tells nothing",
            r"column 'age': every value is missing: it is ignored",
            r"val .*column 'city': is all missing",
            r"no type .* left out .* every value is null",
        ],
    ),
    "types": (ODD_TYPES, [], [r"instant .* numeric", r"codes .* categorical"]),
    "names": (odd_names, ["schema.id=row_id"], []),
    "names of id and label": (
        names({"label": "a.b", "row_id": "💥"}),
        ['schema.label="a.b"', 'schema.id="💥"'],
        [],
    ),
    "an empty name of the label": (names({"label": ""}), ['schema.label=""'], []),
    "an id that is called like an output": (names({"row_id": "prob_yes"}), ["schema.id=prob_yes"], []),
    "a label that is called like an output": (names({"label": "prediction"}), ["schema.label=prediction"], []),
    "boolean labels": (put("label", repeat(True, False, False)), [], []),
    "whole numbers as labels": (put("label", repeat(5, -3, 5)), [], []),
    "doubles as labels": (put("label", repeat(1.0, 0.0, 0.0)), [], []),
    "decimals as labels": (put("label", repeat(decimal.Decimal("1.00"), decimal.Decimal("0.00"))), [], []),
    "a dictionary of labels": (
        put("label", lambda rows, _: pa.array(["a", "b"] * (rows // 2)).dictionary_encode()),
        [],
        [],
    ),
    "classes in another order": (nothing, ["schema.classes=[yes,no]"], []),
    "classes with odd names": (
        several(
            put("label", repeat("", "a/b", "💥", "prob_", "x" * 200)),
            put("label", repeat("", "a/b"), "val"),
        ),
        [],
        [r"label 'label': no row is '💥', 'prob_',"],
    ),
    "several labels": (FLAGS, ["schema.label=[a,b,c,d]"], []),
    "no val": (without("val"), [], [r"data\.val is not set: 20% of data\.train is held out"]),
    "no val, and a class of one row": (
        several(without("val", "test"), put("label", lambda rows, _: ["c", *["a", "b"] * (rows // 2)][:rows], "train")),
        [],
        [r"data\.test is not set"],
    ),
    "one class in val and in test": (
        several(put("label", repeat("yes"), "val"), put("label", repeat("no"), "test")),
        [],
        [r"label 'label': no row is 'no'", r"│ val +│ .*nan"],
    ),
    "files that differ in width": (
        halves(lambda t: with_column(with_column(t, "age", pa.nulls(50)), "city", t["city"].dictionary_encode())),
        [],
        [],
    ),
    "other dictionaries in each row group": (
        replace("train", other_dictionaries),
        [],
        [],
    ),
    "files that differ in what is left out": (halves(lambda t: t.drop_columns("age")), ["schema.drop=[age]"], []),
    "batches of one row": (replace("train", lambda t: t.slice(0, 9)), ["data.batch_size=1"], []),
    "a last batch of one row": (replace("train", lambda t: t.slice(0, 65)), [], []),
    "three rows": (replace("train", lambda t: t.slice(0, 3)), ["data.batch_size=100000"], []),
    "one row": (replace("test", lambda t: t.slice(0, 1)), [], []),
    "numbers only": (nothing, ["schema.categorical=[]"], []),
    "categories only": (nothing, ["schema.numeric=[]"], []),
    "whole numbers as ids": (
        put(
            "row_id",
            lambda rows, number: pa.array([2**64 - 1 - 1000 * number - row for row in range(rows)], pa.uint64()),
        ),
        ["schema.id=row_id"],
        [],
    ),
    "ids that are missing or stand twice": (
        put("row_id", lambda rows, number: [None, None] + [f"{number}-{row // 2}" for row in range(rows - 2)]),
        ["schema.id=row_id"],
        [r"id 'row_id': "],
    ),
}


@pytest.mark.parametrize("case", HANDLED)
def test_handled(commands: Commands, tmp_path: Path, case: str) -> None:
    change, overrides, lines = HANDLED[case]
    found = tables()
    change(found)
    write(tmp_path / "data", found)
    ended = commands.train(tmp_path, "report=default", *overrides)
    assert (ended.code, ended.err) == (0, "")
    for line in lines:
        assert re.search(line, ended.out), ended.out
    assert "\x1b" not in ended.out
    split = "val" if "val" in found else "train"
    predicted = commands.predict(tmp_path, f"data/{split}")
    assert (predicted.code, predicted.err) == (0, "")
    check_predictions(tmp_path, None if split == "train" else split)


def check_predictions(root: Path, split: str | None) -> None:
    """Compare what ``tabstep predict`` wrote with the run's own predictions and with the source."""
    predicted = pq.read_table(root / "p.parquet")
    schema = json.loads((root / "out" / "model" / "schema.json").read_text())
    kept = [name for name in (schema["id"], *schema["label"]) if name is not None]
    assert predicted.column_names[: len(kept)] == kept
    probs = np.array([predicted.column(len(kept) + index) for index in range(len(schema["classes"]))])
    assert np.isfinite(probs).all()
    if schema["task"] != "multilabel":
        assert probs.sum(axis=0) == pytest.approx(1.0, abs=1e-6)
    if split is None:
        return
    source = pq.read_table(root / "data" / split)
    own = pq.read_table(root / "out" / "predictions" / f"{split}.parquet")
    assert own.column_names == predicted.column_names
    if schema["id"] is not None:
        assert own.schema.types[0] == source.schema.field(schema["id"]).type
    for index, name in enumerate(own.column_names):
        if name in kept:
            assert predicted.column(index).to_pylist() == own.column(index).to_pylist() == source[name].to_pylist()
        elif pa.types.is_floating(own.schema.types[index]):
            assert np.allclose(own.column(index), predicted.column(index), atol=1e-6)
        else:
            assert own.column(index).equals(predicted.column(index))


@pytest.mark.slow
def test_five_thousand_columns(commands: Commands, tmp_path: Path) -> None:
    def wide(rows: int, seed: int) -> pa.Table:
        rng = np.random.default_rng(seed)
        numbers = {f"n{index}": rng.normal(size=rows) for index in range(4500)}
        texts = {f"c{index}": rng.choice(["a", "b", "c"], rows).tolist() for index in range(500)}
        return pa.table(numbers | texts | {"label": rng.choice(["no", "yes"], rows).tolist()})

    write(tmp_path / "data", {split: wide(rows, seed) for seed, (split, rows) in enumerate(ROWS.items())})
    ended = commands.train(tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "4488 more" in ended.out
    assert commands.predict(tmp_path, "data/val").code == 0
    check_predictions(tmp_path, "val")


@pytest.mark.slow
def test_a_million_categories(commands: Commands, tmp_path: Path) -> None:
    def many(rows: int, seed: int) -> pa.Table:
        rng = np.random.default_rng(seed)
        texts = pa.array([f"value {number}" for number in rng.permutation(rows)])
        return pa.table({"x": rng.normal(size=rows), "c": texts, "label": rng.choice(["no", "yes"], rows).tolist()})

    baseline = commands.train(tmp_path, "--help").peak_mb
    write(tmp_path / "data", {"train": many(1_000_000, 0), "val": many(500, 1)})
    ended = commands.train(tmp_path, "data.batch_size=16384")
    assert (ended.code, ended.err) == (0, "")
    said = " ".join(re.sub(r"[│\s]+", " ", ended.out).split())  # a table breaks what is long
    assert "column 'c': 1,000,000 distinct values in 1,000,000 rows: is" in said
    assert ended.peak_mb < baseline + 1000
    assert commands.predict(tmp_path, "data/val").code == 0
    check_predictions(tmp_path, "val")


# What `tabstep predict` gets, and how the line begins that it says; None where it predicts.
TO_PREDICT: dict[str, tuple[Callable[[pa.Table], pa.Table], str | None]] = {
    "no label and no id": (lambda t: t.drop_columns(["label", "row_id"]), None),
    "other labels": (lambda t: with_column(t, "label", ["maybe"] * 40), None),
    "nulls": (lambda t: with_column(t, "age", pa.nulls(40)), None),
    "whole numbers": (lambda t: with_column(t, "age", list(range(40))), None),
    "a dictionary": (lambda t: with_column(t, "city", t["city"].dictionary_encode()), None),
    "a missing column": (lambda t: t.drop_columns("age"), "table: column 'age' is missing: "),
    "text for a number": (lambda t: with_column(t, "age", ["x"] * 40), "column 'age' has type string, a number is due"),
    "a number for text": (lambda t: with_column(t, "city", [1] * 40), "column 'city' has type int64, a text is due"),
    "no rows": (lambda t: t.slice(0, 0), "table: t.parquet holds no rows"),
}


@pytest.mark.parametrize("case", TO_PREDICT)
def test_tables_to_predict(commands: Commands, finished: Path, tmp_path: Path, case: str) -> None:
    change, line = TO_PREDICT[case]
    (tmp_path / "out").symlink_to(finished / "out")
    pq.write_table(change(tables()["test"]), tmp_path / "t.parquet")
    ended = commands.predict(tmp_path, "t.parquet")
    assert (ended.code, len(ended.err.splitlines())) == ((0, 0) if line is None else (2, 1)), ended.err
    assert ended.err.startswith(line or "")
    assert (tmp_path / "p.parquet").exists() == (line is None)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("out", "line"),
    [
        ("out", "out: is a directory"),
        ("none/p.parquet", "none/p.parquet: there is no directory none: make it first"),
        ("t.parquet/p.parquet", "t.parquet/p.parquet: there is no directory t.parquet"),
        ("t.parquet", "t.parquet: is read and cannot be written at once: give the output another name"),
        ("./out/../t.parquet", "out/../t.parquet: is read and cannot be written at once"),
    ],
)
def test_places_of_predictions(commands: Commands, finished: Path, tmp_path: Path, out: str, line: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").symlink_to(finished / "out" / "model")
    pq.write_table(tables()["test"], tmp_path / "t.parquet")
    before = digests(tmp_path)
    ended = commands.predict(tmp_path, "t.parquet", out)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith(line)
    assert digests(tmp_path) == before


def digests(root: Path) -> dict[str, str]:
    """Return the digest of each file but for those that a command writes at its very start."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {".hydra", ".lock", "train.log", "cache"} & set(path.relative_to(root).parts)
    }


@pytest.mark.parametrize("name", ["model.safetensors", "encoder.json", "model.json", "golden.parquet", "manifest.json"])
def test_damaged_model(commands: Commands, run_copy: Path, name: str) -> None:
    file = run_copy / "out" / "model" / name
    content = file.read_bytes()
    file.unlink()
    damages = [flipped(content, len(content) // part) for part in (2, 3, 50)] + [content[: len(content) // 2], None]
    for damaged in damages:
        file.unlink(missing_ok=True) if damaged is None else file.write_bytes(damaged)
        ended = commands.predict(run_copy, "data/test")
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
        assert ended.err.startswith("out/model: ")
    assert not (run_copy / "p.parquet").exists()


# What has changed since the run, the overrides, and how each line begins that is said.
CHANGED: dict[str, tuple[Change, list[str], list[str]]] = {
    "train": (put("age", repeat(1.0, 2.0), "train"), [], ["resume: data.train has changed since "]),
    "val": (put("age", repeat(1.0, 2.0), "val"), [], ["resume: data.val has changed since "]),
    "columns": (
        nothing,
        ["schema.drop=[age]"],
        ["resume: data.encoder has changed since ", "resume: schema had numeric=['age', 'income'] in "],
    ),
    "model": (
        nothing,
        ["model.width=9", "seed=4"],
        ["resume: model had width=8 in ", "resume: seed was 42 in "],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CHANGED)
def test_changed_at_resume(commands: Commands, run_copy: Path, case: str) -> None:
    change, overrides, lines = CHANGED[case]
    found = tables()
    change(found)
    write(run_copy / "data", found)
    before = digests(run_copy / "out")
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=3", *overrides)
    assert ended.code == 2, ended.err
    *said, remedy = ended.err.splitlines()
    assert len(said) == len(lines), ended.err
    for line, start in zip(said, lines, strict=True):
        assert line.startswith(start)
    assert remedy == "resume: set that back, or start anew with resume=never or another paths.output_dir"
    assert digests(run_copy / "out") == before


def test_changed_test_split_is_scored_anew(commands: Commands, run_copy: Path) -> None:
    found = tables()
    put("label", repeat("no", "yes"), "test")(found)
    write(run_copy / "data", found)
    before = json.loads((run_copy / "out" / "report.json").read_text())
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=2")
    assert (ended.code, ended.err) == (0, "")
    after = json.loads((run_copy / "out" / "report.json").read_text())
    assert after["test_loss"] != before["test_loss"]
    assert after["val_loss"] == before["val_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["report.json", "DONE", "model", "predictions"])
def test_what_is_lost_of_a_finished_run_is_made_anew(commands: Commands, run_copy: Path, lost: str) -> None:
    path = run_copy / "out" / lost
    before = json.loads((run_copy / "out" / "report.json").read_text())
    shutil.rmtree(path) if path.is_dir() else path.write_text("{")
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=2")
    assert (ended.code, ended.err) == (0, "")
    after = json.loads((run_copy / "out" / "report.json").read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    assert (run_copy / "out" / "predictions" / "test.parquet").exists()
    assert commands.predict(run_copy, "data/test").code == 0


def results(out: Path) -> dict[str, str]:
    """Return the digests of what holds neither the seconds that a command took nor the place where it ran."""
    others = {"report.json", "report.html", "analysis.json", "DONE", "model/config.yaml", "model/manifest.json"}
    return {name: digest for name, digest in digests(out).items() if name not in others}


FILES = [
    *["report.json", "DONE", "predictions/val.parquet", "predictions/test.parquet"],
    *["model/model.safetensors", "model/model.json", "model/encoder.json", "model/schema.json", "model/config.yaml"],
    *["model/metrics.json", "model/versions.json", "model/golden.parquet", "model/manifest.json"],
    *["model/code/inference.py", "model/code/tabstep/__init__.py"],
]


HARMED = [(name, harm) for name in FILES for harm in ("removed", "cut", "flipped")]
SOME = {("report.json", "cut"), ("DONE", "removed"), ("model/model.safetensors", "flipped")}


@pytest.mark.parametrize(
    ("name", "harm"), [pytest.param(*each, marks=[] if each in SOME else pytest.mark.slow) for each in HARMED]
)
def test_a_damaged_finished_run_is_repaired_from_its_checkpoints(
    commands: Commands, run_copy: Path, name: str, harm: str
) -> None:
    out = run_copy / "out"
    arguments = ["schema.id=row_id", "trainer.max_epochs=2"]
    report = json.loads((out / "report.json").read_text())
    before = results(out)
    path = out / name
    content = path.read_bytes()
    path.unlink()
    if harm != "removed":
        position = (FILES.index(name) * 7919) % len(content)
        path.write_bytes(content[:-1] if harm == "cut" else flipped(content, position))
    ended = commands.train(run_copy, *arguments)
    assert (ended.code, ended.err) == (0, "")
    assert "this run is complete" not in ended.out
    if (name, harm) != ("DONE", "removed"):
        assert f"resume: {name} of this finished run is damaged or missing: its results are made" in ended.out
    assert results(out) == before
    after = json.loads((out / "report.json").read_text())
    assert {**after, "seconds": 0} == {**report, "seconds": 0}
    assert "this run is complete" in commands.train(run_copy, *arguments).out


def test_a_damaged_finished_run_without_checkpoints_is_trained_anew(commands: Commands, run_copy: Path) -> None:
    out = run_copy / "out"
    weights = (out / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(out / "checkpoints")
    (out / "model" / "model.safetensors").write_bytes(flipped(weights, 1000))
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=2")
    assert (ended.code, ended.err) == (0, "")
    assert "Epoch: 2 |" in ended.out
    assert (out / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_two_runs_in_one_directory(commands: Commands, run_copy: Path) -> None:
    before = digests(run_copy)
    with open(run_copy / "out" / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = commands.train(run_copy, "schema.id=row_id", "resume=never")
    assert ended.code == 2
    assert re.fullmatch(r"paths\.output_dir: another run is writing to .*: choose another one\n", ended.err)
    assert digests(run_copy) == before


@pytest.mark.slow
def test_two_runs_with_one_directory_of_checkpoints(commands: Commands, run_copy: Path) -> None:
    shutil.move(run_copy / "out" / "checkpoints", run_copy / "kept")
    overrides = ["schema.id=row_id", "trainer.max_epochs=3", "paths.output_dir=other", "paths.checkpoint_dir=kept"]
    overrides.append("report=default")
    before = digests(run_copy)
    with open(run_copy / "kept" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = commands.train(run_copy, *overrides)
        assert ended.code == 2
        assert re.fullmatch(r"paths\.checkpoint_dir: another run is writing to .*: choose another one\n", ended.err)
        assert digests(run_copy) == before
    ended = commands.train(run_copy, *overrides)
    assert (ended.code, ended.err) == (0, "")
    assert "Epoch: 2 |" not in ended.out
    ended = commands.train(run_copy, *overrides, "resume=never")
    assert (ended.code, ended.err) == (0, "")
    assert {path.name for path in (run_copy / "other" / "previous-1").iterdir()} == {
        *["DONE", "checkpoints", "metrics.csv", "model", "predictions", "report.json", "report.html", "analysis.json"]
    }
    assert (run_copy / "kept" / "last-00000012.ckpt").exists()


def checkpoints(root: Path, kind: str) -> list[Path]:
    return sorted((root / "out" / "checkpoints").glob(f"{kind}-*.ckpt"))


def damage(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()  # it may have a second name
    file.write_bytes(flipped(content, len(content) // 2))


@pytest.mark.slow
def test_damaged_checkpoints(commands: Commands, run_copy: Path) -> None:
    damage(checkpoints(run_copy, "last")[-1])
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=3")
    assert ended.code == 0, ended.err
    assert re.fullmatch(r"warning: .*last-0+8\.ckpt: is damaged: .*; trying the one before it\n", ended.err)
    assert "Epoch: 2 |" in ended.out

    for file in checkpoints(run_copy, "last"):
        damage(file)
    before = digests(run_copy)
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=4")
    assert ended.code == 2
    assert len(ended.said) == 1
    assert ended.said[0].endswith("holds only damaged checkpoints; resume=never starts anew")
    assert digests(run_copy) == before


@pytest.mark.parametrize("foreign", ["junk", "torch"])
def test_foreign_checkpoints(commands: Commands, run_copy: Path, foreign: str) -> None:
    file = run_copy / "foreign.ckpt"
    file.write_bytes(b"junk") if foreign == "junk" else torch.save({"state_dict": {}}, file)
    ended = commands.train(run_copy, "paths.output_dir=other", "resume=./foreign.ckpt")
    assert (ended.code, ended.err) == (2, "foreign.ckpt: is not a checkpoint of tabstep\n")
    shutil.copy(file, run_copy / "out" / "checkpoints" / "last-00000099.ckpt")
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=3")
    assert (ended.code, ended.said) == (0, [])
    assert "Epoch: 3 |" in ended.out


@pytest.mark.parametrize(
    ("resume", "line"),
    [
        ("must", r"resume=must: .*other/checkpoints holds no checkpoint; resume=never starts anew"),
        ("./none.ckpt", r"resume: no checkpoint at none\.ckpt: give auto, must, never, a \.ckpt file or a run's dir.*"),
        ("s3://bucket/a.ckpt", r"resume: expected a local checkpoint, got 's3://bucket/a\.ckpt': copy it .*"),
        ("atuo", r"resume: expected auto, must, never or the path of a checkpoint, got 'atuo': did you mean 'auto'\?"),
    ],
)
def test_nothing_to_resume_from(commands: Commands, run_copy: Path, resume: str, line: str) -> None:
    ended = commands.train(run_copy, "schema.id=row_id", "paths.output_dir=other", f"resume='{resume}'")
    assert ended.code == 2
    assert re.fullmatch(line + "\n", ended.err), ended.err


def test_resume(commands: Commands, run_copy: Path) -> None:
    weights = (run_copy / "out" / "model" / "model.safetensors").read_bytes()
    file = checkpoints(run_copy, "last")[-1].relative_to(run_copy)
    for output, source in {"by_file": file, "by_directory": "./out"}.items():
        ended = commands.train(
            run_copy, "schema.id=row_id", "trainer.max_epochs=3", f"paths.output_dir={output}", f"resume='{source}'"
        )
        assert (ended.code, ended.err) == (0, "")
        assert "Epoch: 2 |" not in ended.out
        assert "Epoch: 3 |" in ended.out

    # More epochs than a finished run had, killed before the export, then the same again.
    more = ["schema.id=row_id", "trainer.max_epochs=3"]
    ended = commands.train(run_copy, *more, fault=("tabstep.artifact.save:save", 1, "SIGKILL"))
    assert ended.code == -9
    ended = commands.train(run_copy, *more)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads((run_copy / "out" / "report.json").read_text())["epochs"] == 3
    assert "this run is complete" not in ended.out
    again = commands.train(run_copy, *more).out
    assert "this run is complete" in again
    assert "going on from" not in again

    third = digests(run_copy / "out")
    ended = commands.train(run_copy, "schema.id=row_id", "trainer.max_epochs=2", "resume=never")
    assert (ended.code, ended.err) == (0, "")
    assert (run_copy / "out" / "model" / "model.safetensors").read_bytes() == weights
    assert digests(run_copy / "out" / "previous-1") == third


SIGNALS = [
    ("tabstep.training.classifier:Classifier.training_step", 3),
    ("tabstep.training.callbacks.when_to_save:Checkpointer._save", 1),
    ("tabstep.training.classifier:Classifier.validation_step", 1),
    ("tabstep.training.classifier:Classifier.on_train_epoch_end", 1),
    ("tabstep.run.prepare:encode_table", 2),
    ("tabstep.artifact.save:save", 1),
    ("tabstep.run.run:write_json", 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signals(commands: Commands, finished: Path, tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "data").symlink_to(finished / "data")
    for number, (point, call) in enumerate(SIGNALS):
        overrides = ["schema.id=row_id", "trainer.max_epochs=2", f"paths.output_dir=out-{number}"]
        overrides.append(f"paths.cache_dir=cache-{number}")
        ended = commands.train(tmp_path, *overrides, fault=(point, call, name))
        assert ended.code == code, (point, ended.err)
        assert len(ended.err.splitlines()) == 1, ended.err
        assert ended.err.startswith((f"stopped by {name}: ", "interrupted"))
        if number < 4:
            assert list((tmp_path / f"out-{number}" / "checkpoints").glob("last-*.ckpt"))
        ended = commands.train(tmp_path, *overrides)
        assert (ended.code, ended.err) == (0, ""), point
        model = tmp_path / f"out-{number}" / "model" / "model.safetensors"
        assert model.read_bytes() == (finished / "out" / "model" / "model.safetensors").read_bytes(), point
        assert not list((tmp_path / f"cache-{number}").glob(".*.building"))


@pytest.mark.slow
def test_max_time(commands: Commands, run_copy: Path) -> None:
    overrides = ["schema.id=row_id", "trainer.max_epochs=10000", "trainer.max_time=0.0002"]
    ended = commands.train(run_copy, *overrides, "callbacks=no_early_stopping")
    assert (ended.code, ended.err) == (0, "")
    report = json.loads((run_copy / "out" / "report.json").read_text())
    assert report["stop_reason"] == "trainer.max_time=0.0002 h reached"
    assert 2 <= report["epochs"] < 10_000


# Where the disk is full from then on, and whether the run still ends well.
FULL: list[tuple[Fault, int]] = [
    (("tabstep.encoding.encoded_table:write_sealed", 1, "ENOSPC"), 75),
    (("tabstep.system.atomic_write:write_durably", 0, "ENOSPC"), 75),
    (("tabstep.training.checkpoint_store:dump_state", 1, "ENOSPC"), 0),
    (("tabstep.training.checkpoint_store:dump_state", 3, "ENOSPC"), 75),
    (("tabstep.training.checkpoint_store:dump_state", 0, "ENOSPC"), 75),
    (("tabstep.training.loggers:write_durably", 0, "ENOSPC"), 75),
    (("tabstep.artifact.prediction_files:write_batches", 1, "ENOSPC"), 75),
    (("tabstep.artifact.save:save", 1, "ENOSPC"), 75),
    (("tabstep.artifact.save:_swap", 1, "ENOSPC"), 75),
    (("tabstep.run.run:write_json", 1, "ENOSPC"), 75),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code"), FULL)
def test_full_disk(commands: Commands, finished: Path, tmp_path: Path, fault: Fault, code: int) -> None:
    (tmp_path / "data").symlink_to(finished / "data")
    # What begins as logistic regression is best after an epoch; here it is the third, which the third save is of.
    overrides = ["schema.id=row_id", "trainer.max_epochs=3", "model.linear=false"]
    ended = commands.train(tmp_path, *overrides, fault=fault)
    assert ended.code == code, ended.err
    assert len(ended.said) == (code != 0), ended.err
    assert all("No space left on device" in line or "the disk" in line for line in ended.err.splitlines())
    assert not list(tmp_path.glob("out/checkpoints/.*"))
    ended = commands.train(tmp_path, *overrides)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["epochs"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("point", ["tabstep.artifact.prediction_files:write_batches", "os:replace"])
def test_full_disk_while_predicting(commands: Commands, run_copy: Path, point: str) -> None:
    (run_copy / "p.parquet").write_text("before")
    ended = commands.predict(run_copy, "data/test", fault=(point, 1, "ENOSPC"))
    assert (ended.code, len(ended.err.splitlines())) == (75, 1)
    assert ended.err.startswith("p.parquet: cannot be written: No space left on device")
    assert (run_copy / "p.parquet").read_text() == "before"
    assert not list(run_copy.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("paths.output_dir=notes.txt", "paths.output_dir: cannot be written: File exists"),
        ("paths.output_dir=notes.txt/out", "paths.output_dir: cannot be written: Not a directory"),
        ("paths.cache_dir=notes.txt", "paths.cache_dir: cannot write 'notes.txt'"),
        ("paths.checkpoint_dir=notes.txt", "paths.checkpoint_dir: cannot be written: "),
        ("paths.checkpoint_dir=notes.txt/a", "paths.checkpoint_dir: cannot be written: "),
        ("paths.model_dir=notes.txt", "paths.model_dir: notes.txt is a file"),
        ("paths.model_dir=notes.txt/a/b", "paths.model_dir: cannot be written: "),
        (
            "paths.model_dir=data",
            "paths.model_dir: data holds 'test' and is no model: name a new or an empty directory",
        ),
        ("paths.output_dir=/proc/out", "paths.output_dir: cannot be written: "),
        ("paths.model_dir=/proc/model", "paths.model_dir: cannot be written: "),
    ],
)
def test_places_that_cannot_be_written(commands: Commands, tmp_path: Path, override: str, line: str) -> None:
    if "/proc/" in override and not Path("/proc").is_dir():
        pytest.skip("this machine has no directory that even its administrator cannot write to")
    write(tmp_path / "data", tables())
    (tmp_path / "notes.txt").write_text("a file is no directory")
    before = digests(tmp_path / "data")
    ended = commands.train(tmp_path, override)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert ended.err.startswith(line)
    assert "Epoch: 1 |" not in ended.out
    assert digests(tmp_path / "data") == before


def test_a_mounted_model_directory(commands: Commands, run_copy: Path) -> None:
    model = run_copy / "out" / "model"
    (model / "old").write_text("of another version")
    inode, before = model.stat().st_ino, digests(model)
    ended = commands.train(
        run_copy, "schema.id=row_id", "trainer.max_epochs=3", fault=("os:replace", 0, "MOUNTED"), TABSTEP_TRACEBACK="1"
    )
    assert (ended.code, ended.err) == (0, "")
    assert model.stat().st_ino == inode
    assert set(digests(model)) == set(before) - {"old"}
    assert digests(model)["manifest.json"] != before["manifest.json"]
    assert commands.predict(run_copy, "data/test").code == 0
    assert not list((run_copy / "out").glob(".model.*"))


SECRET = "hunter2" + "hunter2"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (f"data.test='s3://me:{SECRET}@bucket/test.parquet'", "data.test: holds a password in an address: "),
        (f"tags=[a,'password: {SECRET}']", "tags[1]: holds a password or key: "),
        ("tags=[" + "AKIA" + "HUNTER2HUNTER2XX]", "tags[0]: holds an AWS access key: "),
    ],
)
def test_secrets_are_refused(commands: Commands, tmp_path: Path, override: str, line: str) -> None:
    ended = commands.train(tmp_path, override)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
    assert ended.err.startswith(line)
    assert "hunter2" not in (ended.out + ended.err).lower()
    assert list(tmp_path.iterdir()) == []


def test_secrets_of_the_environment_are_not_stored(commands: Commands, tmp_path: Path) -> None:
    write(tmp_path / "data", tables())
    ended = commands.train(tmp_path, "tags=['by ${oc.env:MY_API_TOKEN}']", "logger=tensorboard", MY_API_TOKEN=SECRET)
    assert ended.code == 0, ended.err
    assert SECRET not in ended.out + ended.err
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert "by ***" in (tmp_path / "out" / "model" / "config.yaml").read_text()


@pytest.mark.slow
def test_predictions_into_one_file_at_once(finished: Path, tmp_path: Path) -> None:
    """Several commands, each a process: all end with 0 and the file is one of theirs, whole."""
    command = [sys.executable, "-m", "tabstep.cli", "predict", str(finished / "out" / "model")]
    processes = [
        subprocess.Popen([*command, str(finished / "data" / split), "-o", "p.parquet"], cwd=tmp_path)
        for split in ("train", "val", "test")
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert pq.read_table(tmp_path / "p.parquet", page_checksum_verification=True).num_rows in ROWS.values()
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


@pytest.mark.parametrize("place", ["/dev/null", "pipe"])
def test_predictions_into_what_is_no_file(commands: Commands, finished: Path, tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = (tmp_path / place).stat()
    ended = commands.predict(finished, "data/test", str(tmp_path / place))
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "is a device, a pipe or a socket, which no file can replace" in ended.err
    assert (tmp_path / place).stat().st_mode == before.st_mode
