from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tabstep.errors import UserError
from tabstep.tables.csv import CsvTable


def rows(path: Path, *columns: str) -> dict[str, list[object]]:
    return next(iter(CsvTable(str(path), where="data.train").batches(columns))).to_pydict()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_types_and_missing_cells(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    lines = [["a", "b", "c"], ["1", "x", "2.5"], ["", '"NA"', "NA"], ["3", "", "1"]]
    path.write_text("\n".join(delimiter.join(line) for line in lines) + "\n", encoding="utf-8")
    assert rows(path, "b", "a", "c") == {"b": ["x", "NA", None], "a": [1, None, 3], "c": [2.5, None, 1.0]}


def test_a_type_follows_from_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,x\n" * 400_000 + "2.5,y\n", encoding="utf-8")
    table = CsvTable(str(path), where="data.train")
    assert str(table.arrow_schema.field("a").type) == "double"
    assert table.num_rows == 400_001
    assert max(batch.num_rows for batch in table.batches(["a"], 1000)) == 1000


def test_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    assert rows(tmp_path / "a.csv.gz", "a") == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV: Empty CSV file"),
        ("a,b\n", "holds no rows"),
        ("a,a\n1,2\n", "column 'a' stands more than once"),
        ("a,b\n1,2\n3\n", "cannot be read as CSV: .*Expected 2 columns, got 1"),
    ],
)
def test_bad_files_end_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        CsvTable(str(path), where=str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as CSV"):
        CsvTable(str(tmp_path / "a.csv"), where="a")
    (tmp_path / "a.csv").write_text("income\n1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"column 'incom' is missing: did you mean 'income'\?"):
        rows(tmp_path / "a.csv", "incom")
