from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tabstep.checks import Finding, check_splits, findings_table, raise_errors
from tabstep.errors import ProblemsError
from tabstep.schema import Schema
from tabstep.tables.source import ParquetSource, open_source
from tabstep.tables.splits import Cut, hold_out

SCHEMA = Schema(id="id", label=("y",), numeric=("x",), categorical=("c",))
Table = dict[str, Any]
SHARED = Path(__file__).parents[3] / "shared" / "data"


def clean(rows: int, start: int) -> Table:
    rng = np.random.default_rng(start)
    return {
        "id": np.arange(start, start + rows),
        "x": rng.normal(size=rows),
        "c": rng.choice(["a", "b", "c"], rows).tolist(),
        "y": rng.choice(["no", "yes"], rows).tolist(),
    }


def sources(tmp_path: Path, tables: dict[str, Table]) -> dict[str, ParquetSource]:
    for split, table in tables.items():
        pq.write_table(pa.table(table), tmp_path / f"{split}.parquet")
    return {split: open_source(f"{tmp_path}/{split}.parquet", split=split) for split in tables}


def tables() -> dict[str, Table]:
    return {"train": clean(1200, 0), "val": clean(400, 2000), "test": clean(400, 3000)}


def bad(findings: list[Finding]) -> list[tuple[str, str, str, str]]:
    return [(f.check, f.split, f.severity, f.message) for f in findings if f.severity != "ok"]


def test_clean_splits_have_an_ok_for_every_check(tmp_path: Path) -> None:
    findings = check_splits(sources(tmp_path, tables()), SCHEMA)
    assert not bad(findings)
    assert [finding.check for finding in findings] == [
        *["schema", "files", "rows", "ids", "duplicates", "labels"],
        *["missing", "infinities", "constants", "categories", "leaks"],
    ]
    raise_errors(findings, "strict")


def set_column(split: str, name: str, values: Callable[[Table], Any]) -> Callable[[dict[str, Table]], None]:
    def change(found: dict[str, Table]) -> None:
        found[split][name] = values(found[split])

    return change


def some(first: Any) -> Callable[[Table], Any]:
    return lambda table: [first, *table["y"][1:]]


CASES: dict[str, tuple[Callable[[dict[str, Table]], Any], tuple[str, str, str], str]] = {
    "column missing": (
        lambda t: t["val"].pop("x"),
        ("schema", "val", "error"),
        "column 'x': is missing",
    ),
    "label of test missing": (
        lambda t: t["test"].pop("y"),
        ("schema", "test", "error"),
        "column 'y': the label is missing: a test is scored; leave out data.test, and give these rows to",
    ),
    "type differs": (
        set_column("test", "x", lambda t: [str(x) for x in t["x"]]),
        ("schema", "test", "error"),
        "column 'x': is string, and double in train",
    ),
    "shared ids": (
        set_column("val", "id", lambda t: np.arange(1990 - 800, 2390 - 800)),
        ("ids", "val", "warning"),
        "id 'id': 10 of 400 ids are in train too",
    ),
    "most ids shared": (
        set_column("test", "id", lambda t: np.arange(400)),
        ("ids", "test", "error"),
        "id 'id': 400 of 400 ids are in train too",
    ),
    "repeated ids": (
        set_column("train", "id", lambda t: np.append(t["id"][:-1], 0)),
        ("ids", "train", "warning"),
        "id 'id': 1 of 1,200 rows repeat an id",
    ),
    "repeated rows": (
        lambda t: [t["train"].update({name: [*t["train"][name][:600]] * 2}) for name in "xcy"],
        ("duplicates", "train", "warning"),
        "600 of 1,200 rows repeat another row",
    ),
    "rows of train": (
        lambda t: [t["val"].update({name: t["train"][name][:400]}) for name in "xcy"],
        ("duplicates", "val", "warning"),
        "400 of 400 rows are in train too",
    ),
    "missing label": (
        set_column("train", "y", lambda t: [*t["y"][:7], None, None, *t["y"][9:]]),
        ("labels", "train", "error"),
        "label 'y': 2 of 1,200 are missing, first in row 7",
    ),
    "single class": (
        set_column("train", "y", lambda t: ["no"] * 1200),
        ("labels", "train", "error"),
        "label 'y': every row is 'no': at least two classes are needed",
    ),
    "a class with a space": (
        set_column("train", "y", lambda t: [*t["y"][:7], "yes ", *t["y"][8:]]),
        ("labels", "train", "error"),
        "label 'y': 'yes ' (1 of the rows, first in row 7) differs from 'yes' by spaces only, and would be a class",
    ),
    "a class with a capital": (
        set_column("train", "y", lambda t: [*t["y"][:7], "Yes", "YES", *t["y"][9:]]),
        ("labels", "train", "warning"),
        "label 'y': 'Yes' (1 of the rows, first in row 7) differs from 'yes' by upper and lower case only",
    ),
    "unknown class": (
        set_column("val", "y", some("maybe")),
        ("labels", "val", "error"),
        "label 'y': 'maybe' not in train (1 rows, first in row 0)",
    ),
    "absent class": (
        set_column("test", "y", lambda t: ["no"] * 400),
        ("labels", "test", "warning"),
        "label 'y': no row is 'yes'",
    ),
    "labels of another kind": (
        set_column("train", "y", lambda t: [f"u{number % 3}" for number in range(1200)]),
        ("labels", "val", "error"),
        "label 'y': 'yes' and 1 more not in train",
    ),
    "an id as label": (
        set_column("train", "y", lambda t: [f"u{number}" for number in range(1200)]),
        ("labels", "train", "error"),
        "label 'y': more than 1,000 classes",
    ),
    "a quantity as label": (
        lambda t: [t[split].update(y=[number / 4 for number in range(len(t[split]["y"]))]) for split in t],
        ("labels", "train", "error"),
        "label 'y': 0.25 in row 1 is no integer",
    ),
    "mostly missing": (
        set_column("train", "c", lambda t: [None] * 700 + t["c"][700:]),
        ("missing", "train", "warning"),
        "column 'c': 58% are missing",
    ),
    "NaN counts as missing": (
        set_column("train", "x", lambda t: np.where(np.arange(1200) < 900, np.nan, t["x"])),
        ("missing", "train", "warning"),
        "column 'x': 75% are missing",
    ),
    "missing more often than in train": (
        set_column("val", "x", lambda t: pa.array(t["x"], mask=np.arange(400) < 120)),
        ("missing", "val", "warning"),
        "column 'x': 30% are missing, and 0% in train",
    ),
    "all missing": (
        set_column("train", "x", lambda t: pa.nulls(1200)),
        ("missing", "train", "warning"),
        "column 'x': every value is missing: it is ignored",
    ),
    "infinities": (
        set_column("val", "x", lambda t: np.append(t["x"][:-2], [np.inf, -np.inf])),
        ("infinities", "val", "warning"),
        "column 'x': 2 infinite values are handled as missing",
    ),
    "constant number": (
        set_column("train", "x", lambda t: np.full(1200, 2.5)),
        ("constants", "train", "warning"),
        "column 'x': every value is 2.5",
    ),
    "constant category": (
        set_column("train", "c", lambda t: ["a"] * 1200),
        ("constants", "train", "warning"),
        "column 'c': every value is the same",
    ),
    "unseen categories": (
        set_column("test", "c", lambda t: ["new"] * 100 + t["c"][100:]),
        ("categories", "test", "warning"),
        "column 'c': 25.0% of the values are not in train",
    ),
    "a category for each row": (
        set_column("train", "c", lambda t: [f"u{number}" for number in range(1200)]),
        ("categories", "train", "warning"),
        "column 'c': 1,200 distinct values in 1,200 rows: is it an id?",
    ),
    "numeric leak": (
        set_column("train", "x", lambda t: (np.array(t["y"]) == "yes") + 0.001 * t["x"]),
        ("leaks", "train", "warning"),
        "column 'x': alone it gives the label away (AUROC 1.0000)",
    ),
    "categorical leak": (
        set_column("train", "c", lambda t: [f"{value}!" for value in t["y"]]),
        ("leaks", "train", "warning"),
        "column 'c': alone it gives the label away",
    ),
}


@pytest.mark.parametrize(("change", "expected", "message"), CASES.values(), ids=CASES)
def test_each_fault_is_found(
    tmp_path: Path, change: Callable[[dict[str, Table]], Any], expected: tuple[str, str, str], message: str
) -> None:
    found = tables()
    change(found)
    findings = bad(check_splits(sources(tmp_path, found), SCHEMA))
    assert any(finding[:3] == expected and finding[3].startswith(message) for finding in findings), findings
    assert all("\n" not in finding[3] for finding in findings)


def test_the_same_file_in_two_splits_is_an_error(tmp_path: Path) -> None:
    found = sources(tmp_path, tables())
    found["test"] = found["train"]
    assert ("files", "test", "error") in [finding[:3] for finding in bad(check_splits(found, SCHEMA))]


def test_the_two_parts_of_a_held_out_share_are_no_error(tmp_path: Path) -> None:
    train, val = hold_out(sources(tmp_path, tables())["train"], Cut(label=("y",)), 0.2)
    assert not bad(check_splits({"train": train, "val": val}, SCHEMA))


def test_string_ids_and_dictionaries(tmp_path: Path) -> None:
    found = tables()
    for table in found.values():
        table["id"] = [f"{number:x}" for number in table["id"]]
    found["val"]["c"] = pa.array(found["val"]["c"]).dictionary_encode()
    found["val"]["id"] = pa.array(found["train"]["id"][:400]).dictionary_encode()
    assert [finding[:3] for finding in bad(check_splits(sources(tmp_path, found), SCHEMA))] == [("ids", "val", "error")]


def test_several_labels(tmp_path: Path) -> None:
    found = tables()
    for table in found.values():
        table["z"] = [0] * len(table["y"])
    schema = Schema(id="id", label=("y", "z"), numeric=("x",), categorical=("c",))
    assert bad(check_splits(sources(tmp_path, found), schema)) == [
        ("labels", "train", "warning", "label 'z': every row is '0': at least two classes are needed")
    ]


def test_large_splits_are_judged_by_their_first_rows_and_it_is_said(tmp_path: Path) -> None:
    findings = check_splits(sources(tmp_path, tables()), SCHEMA, row_limit=300)
    assert next(f.message for f in findings if f.check == "rows") == "the first 300 of 1,200 rows are checked"


def test_many_columns_make_one_finding(tmp_path: Path) -> None:
    names = [f"k{number}" for number in range(300)]
    found = {split: table | {name: np.ones(len(table["y"])) for name in names} for split, table in tables().items()}
    schema = Schema(id="id", label=("y",), numeric=("x", *names), categorical=("c",))
    findings = bad(check_splits(sources(tmp_path, found), schema))
    assert [finding[:3] for finding in findings] == [("constants", "train", "warning")]
    assert findings[0][3].startswith("300 columns ('k0', 'k1', 'k2', 'k3', …): every value is 1")


def test_errors_are_raised_together_unless_they_are_only_to_be_said() -> None:
    findings = [
        Finding(check="labels", split=split, column="y", severity="error", message=f"label 'y': fault {split}")
        for split in ("train", "val")
    ]
    with pytest.raises(ProblemsError) as caught:
        raise_errors(findings, "strict")
    assert caught.value.problems == ("data.train: label 'y': fault train", "data.val: label 'y': fault val")
    raise_errors(findings, "warn")
    raise_errors([], "strict")


def test_the_table_shows_names_without_markup_or_control_characters() -> None:
    finding = Finding(check="leaks", split="train", column="x", severity="warning", message="[bold]x\x1b[2J")
    console = Console(file=io.StringIO(), width=100)
    console.print(findings_table([finding]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]x" in text
    assert "\x1b" not in text


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real tables are not on this machine")
@pytest.mark.parametrize(("name", "label"), [("adult", "income"), ("bank", "deposit"), ("students", "target")])
def test_real_tables_raise_no_alarm(name: str, label: str) -> None:
    found = {s: open_source(str(SHARED / name / f"{s}.parquet"), split=s) for s in ("train", "val", "test")}
    schema = found["train"].arrow_schema
    numeric = tuple(f.name for f in schema if not pa.types.is_string(f.type) and f.name not in ("row_id", label))
    categorical = tuple(f.name for f in schema if pa.types.is_string(f.type) and f.name != label)
    findings = check_splits(found, Schema(id="row_id", label=(label,), numeric=numeric, categorical=categorical))
    assert not bad(findings)
