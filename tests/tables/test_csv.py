from __future__ import annotations

import gzip
from datetime import date, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.errors import UserError
from tabstep.tables.csv import CsvTable
from tabstep.tables.readers import as_parquet


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


def test_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("job\nKöchin\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"invalid UTF8 data: is it Latin-1\? save it as UTF-8"):
        rows(tmp_path / "a.csv", "job")


def test_a_missing_file_and_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a: no such file or directory: "):
        CsvTable(str(tmp_path / "a.csv"), where="a")
    (tmp_path / "a.csv").write_text("income\n1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"column 'incom' is missing: did you mean 'income'\?"):
        rows(tmp_path / "a.csv", "incom")


def test_types_of_columns(tmp_path: Path) -> None:
    columns = {
        "whole": ["1", "-2", " 3 "],
        "real": ["1", "2.5", "1e-3"],
        "flag": ["true", "false", ""],
        "day": ["2024-01-31", "", "1970-01-01"],
        "clock": ["12:30:00", "00:00:01", ""],
        "instant": ["2024-01-31 12:00:00", "", "2024-01-31T12:00:01"],
        "zoned": ["2024-01-31T12:00:00Z", "2024-01-31T12:00:00+02:00", ""],
        "zip": ["01067", "80331", ""],
        "blank": ["7", " ", "NA"],
        "empty": ["", "NA", "null"],
        "spaces": [" ", "  ", ""],
        "words": ["7.5", "n.a.", " ? "],
        "dated": ["unknown", "2024-01-31", "N/A"],
        "answer": ["unknown", "?", ""],
        "text": ["1", "x", " y"],
    }
    path = tmp_path / "a.csv"
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = CsvTable(str(path), where="data.train")
    found = dict(zip(table.arrow_schema.names, map(str, table.arrow_schema.types), strict=True))
    assert found == {
        "whole": "int64",
        "real": "double",
        "flag": "bool",
        "day": "date32[day]",
        "clock": "time64[us]",
        "instant": "timestamp[s]",
        "zoned": "timestamp[us, tz=UTC]",
        "zip": "string",
        "blank": "int64",
        "empty": "null",
        "spaces": "null",
        "words": "double",
        "dated": "date32[day]",
        "answer": "string",
        "text": "string",
    }
    values = next(table.batches(list(columns))).to_pydict()
    assert values["whole"] == [1, -2, 3]
    assert values["day"] == [date(2024, 1, 31), None, date(1970, 1, 1)]
    assert values["clock"] == [time(12, 30), time(0, 0, 1), None]
    assert values["zoned"][1].isoformat() == "2024-01-31T10:00:00+00:00"
    assert values["zip"] == ["01067", "80331", None]
    assert values["blank"] == [7, None, None]
    assert values["words"] == [7.5, None, None]
    assert values["answer"] == ["unknown", "?", None]
    assert values["text"] == ["1", "x", " y"]


def test_words_in_the_first_block_leave_the_type_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n" + "unknown,unknown,unknown\n" * 100_000 + "1,x,true\n", encoding="utf-8")
    table = CsvTable(str(path), where="data.train")
    assert [str(dtype) for dtype in table.arrow_schema.types] == ["int64", "string", "bool"]
    batches = list(table.batches(["a", "b", "c"]))
    assert batches[0].slice(0, 1).to_pylist() == [{"a": None, "b": "unknown", "c": None}]
    assert batches[-1].slice(batches[-1].num_rows - 1).to_pylist() == [{"a": 1, "b": "x", "c": True}]


def test_quoted_lines_and_a_missing_last_newline(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'a,b\r\n1,"two\nlines, one cell"\r\n2,plain')
    assert rows(tmp_path / "a.csv", "b") == {"b": ["two\nlines, one cell", "plain"]}


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_packed_files_by_their_ending(tmp_path: Path, packing: str) -> None:
    path = tmp_path / {"gzip": "a.csv.gz", "zstd": "a.csv.zst"}[packing]
    with pa.output_stream(path, compression=packing) as file:
        file.write(b"a\n1\n")
    assert rows(path, "a") == {"a": [1]}


def test_files_of_a_directory_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("b,a\ny,2.5\n")
    table = CsvTable(str(tmp_path), where="data.train")
    assert [batch.to_pydict() for batch in table.batches(["a", "b"])] == [
        {"a": [1.0], "b": ["x"]},
        {"a": [2.5], "b": ["y"]},
    ]
    (tmp_path / "3.csv").write_text("a,c\n1,x\n")
    with pytest.raises(UserError, match=r"data.train: column 'b' is not in both 1.csv and 3.csv"):
        CsvTable(str(tmp_path), where="data.train")


def test_kinds_of_train_hold_for_other_splits(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("code,count\n1,007\n")
    table = CsvTable(str(tmp_path / "a.csv"), where="data.val", kinds={"code": "text", "count": "number"})
    assert next(table.batches(["code", "count"])).to_pydict() == {"code": ["1"], "count": [7]}
    (tmp_path / "a.csv").write_text("count\n1\nmany\n")
    with pytest.raises(UserError, match=r"data.val: column 'count', row 1: a number is due as in train, got 'many'"):
        CsvTable(str(tmp_path / "a.csv"), where="data.val", kinds={"count": "number"})


def test_a_duration_is_one_where_train_had_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("wait\n1.5\nNA\n")
    table = CsvTable(str(tmp_path / "a.csv"), where="data.val", kinds={"wait": "duration"})
    assert next(table.batches(["wait"])).to_pydict() == {"wait": [timedelta(seconds=1.5), None]}


def test_a_file_is_converted_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path, cache = tmp_path / "customers.csv.gz", tmp_path / "cache"
    path.write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n"))
    first = as_parquet(str(path), where="data.train", cache_dir=cache)
    assert Path(first).name == "customers.parquet"
    assert pq.read_table(first, page_checksum_verification=True).to_pydict() == {"a": [1, 2], "b": ["x", "y"]}
    before = Path(first).stat().st_mtime_ns
    assert as_parquet(str(path), where="data.train", cache_dir=cache) == first
    assert Path(first).stat().st_mtime_ns == before
    path.write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n3,z\n"))
    assert pq.read_table(as_parquet(str(path), where="data.train", cache_dir=cache)).num_rows == 3


def test_memory_is_bounded_by_a_block(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + f"1,{'x' * 96}\n" * 900_000)  # 88 MB
    before = pa.total_allocated_bytes()
    table = CsvTable(str(path), where="data.train")
    assert (
        max(pa.total_allocated_bytes() - before for _ in table.batches(["a", "b"])) < 56 * 2**20
    )  # Arrow reads 32 blocks ahead
