from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.errors import UserError
from tabstep.tables.source import ParquetSource, open_source

HOSTILE = ["keys", "a.b", "a", "c", "", "😀", "x" * 200, "train", "type", "b.c.d", "a b", "${x}", "[0]", '"', "\n"]


def write(path: Path, columns: dict[str, object] | pa.Table, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def read(source: ParquetSource, columns: list[str], rows: int = 65536) -> pa.Table:
    return pa.Table.from_batches(list(source.batches(columns, rows)))


def test_a_file_a_directory_a_glob_and_an_address_read_alike(tmp_path: Path) -> None:
    write(tmp_path / "d" / "b.parquet", {"a": [3]})
    write(tmp_path / "d" / "a.parquet", {"a": [1, 2]})
    for location in (f"{tmp_path}/d", f"{tmp_path}/d/", f"{tmp_path}/d/*.parquet", f"file://{tmp_path}/d"):
        source = open_source(location, split="train")
        assert source.num_rows == 3
        assert read(source, ["a"]).to_pydict() == {"a": [1, 2, 3]}  # sorted by file name
    assert open_source(f"{tmp_path}/d/b.parquet", split="train").num_rows == 1


def test_columns_come_in_the_asked_order_with_one_type(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"i": pa.array([1, None], pa.int32()), "s": ["x", None], "extra": [0, 0]})
    write(tmp_path / "b.parquet", {"extra": [0], "s": pa.array(["x"]).dictionary_encode(), "i": pa.array([2.5])})
    source = open_source(str(tmp_path), split="train")
    for batch in source.batches(["s", "i"]):
        assert batch.schema == pa.schema([("s", pa.string()), ("i", pa.float64())])
    assert read(source, ["s", "i"]).to_pydict() == {"s": ["x", None, "x"], "i": [1.0, None, 2.5]}


def test_hostile_names_are_exact_names(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {name: [position] for position, name in enumerate(HOSTILE)})
    source = open_source(str(tmp_path), split="train")
    assert read(source, HOSTILE).column_names == HOSTILE
    for position, name in enumerate(HOSTILE):
        assert read(source, [name]).to_pydict() == {name: [position]}


def test_a_name_with_a_point_is_not_a_field_of_a_struct(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"a": pa.array([{"b": 1}]), "a.b": [2]})
    assert read(open_source(str(tmp_path), split="train"), ["a.b"]).to_pydict() == {"a.b": [2]}


def test_dictionaries_that_differ_between_row_groups_and_files(tmp_path: Path) -> None:
    parts = [pa.table({"k": pa.array(values).dictionary_encode()}) for values in (["a", "b"] * 50, ["c", "b"] * 50)]
    write(tmp_path / "a.parquet", pa.concat_tables(parts), row_group_size=30)
    write(tmp_path / "b.parquet", {"k": pa.array(["z", "a"]).dictionary_encode()})
    source = open_source(str(tmp_path), split="train")
    assert [value for batch in source.batches(["k"]) for value in batch.column(0).to_pylist()] == [
        *["a", "b"] * 50,
        *["c", "b"] * 50,
        "z",
        "a",
    ]


def test_batches_are_bounded_by_rows_and_by_cells(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"a": np.arange(1000)}, row_group_size=400)
    source = open_source(str(tmp_path), split="train")
    assert max(batch.num_rows for batch in source.batches(["a"], rows=64)) <= 64
    assert read(source, ["a"], rows=64)["a"].to_pylist() == list(range(1000))


def test_five_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{position}" for position in range(5000)]
    write(tmp_path / "a.parquet", {name: np.arange(900.0) for name in names})
    sizes = [batch.num_rows for batch in open_source(str(tmp_path), split="train").batches(names)]
    assert sum(sizes) == 900
    assert max(sizes) * 5000 <= 2**22


def test_hive_partitions_become_columns_on_request(tmp_path: Path) -> None:
    write(tmp_path / "year=2023" / "city=K%C3%B6ln" / "p.parquet", {"a": [1]})
    write(tmp_path / "year=2024" / "city=__HIVE_DEFAULT_PARTITION__" / "p.parquet", {"a": [2]})
    source = open_source(str(tmp_path), split="train", partitioning="hive")
    assert read(source, ["city", "a", "year"]).to_pydict() == {
        "city": ["Köln", None],
        "a": [1, 2],
        "year": [2023, 2024],
    }
    plain = open_source(str(tmp_path), split="train")
    assert plain.arrow_schema.names == ["a"]
    assert plain.ignored_partitions == ("year", "city")


def test_subset_keeps_order_and_composes(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"a": np.arange(70)}, row_group_size=7)
    write(tmp_path / "b.parquet", {"a": np.arange(70, 100)})
    source = open_source(str(tmp_path), split="train")
    even = source.subset(np.arange(100) % 2 == 0, "train")
    part = even.subset(np.arange(50) >= 45, "val")
    assert read(part, ["a"], rows=16)["a"].to_pylist() == [90, 92, 94, 96, 98]
    assert (part.num_rows, part.split, part.whole, source.whole) == (5, "val", False, True)
    assert len({found.fingerprint() for found in (source, even, part)}) == 3


def test_fingerprints_follow_the_data(tmp_path: Path) -> None:
    write(tmp_path / "one" / "a.parquet", {"a": np.arange(100)}, compression="none")
    shutil.copy2(tmp_path / "one" / "a.parquet", (tmp_path / "two").mkdir() or tmp_path / "two" / "a.parquet")
    one, two = (open_source(str(tmp_path / name), split="train") for name in ("one", "two"))
    assert one.fingerprint() == two.fingerprint()
    os.utime(tmp_path / "two" / "a.parquet", ns=(1, 1))
    touched = open_source(str(tmp_path / "two"), split="train")
    assert touched.fingerprint() == one.fingerprint()
    write(tmp_path / "two" / "a.parquet", {"a": np.arange(100)[::-1]}, compression="none")
    changed = open_source(str(tmp_path / "two"), split="train")
    assert changed.fingerprint() != one.fingerprint()
    with pytest.raises(UserError, match=r"^data.train: a.parquet: changed while it was read: run again when"):
        list(touched.batches(["a"]))


def flip(path: Path, where: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(where) + 3] ^= 1
    path.write_bytes(bytes(data))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


BAD_FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda d: None, r"no such file or directory"),
    ("empty directory", lambda d: d.mkdir(), r"no parquet file in .* \(it is empty\)"),
    ("hidden files only", lambda d: write(d / "_tmp" / "a.parquet", {"a": [1]}), r"only hidden files, such as a"),
    ("other files only", lambda d: write(d / "a.csv", {"a": [1]}), r"found a\.csv: .* must end in \.parquet"),
    ("zero bytes", lambda d: write(d / "a.parquet", {"a": [1]}).write_bytes(b""), r"a\.parquet: is an empty file"),
    ("text", lambda d: write(d / "a.parquet", {"a": [1]}).write_text("a,b\n" * 9), r"is not a parquet file"),
    ("truncated", lambda d: truncated(write(d / "a.parquet", {"a": [1]})), r"a\.parquet: is truncated"),
    ("no rows", lambda d: write(d / "a.parquet", {"a": pa.array([], pa.int64())}), r"holds no rows"),
    (
        "column twice",
        lambda d: write(d / "a.parquet", pa.Table.from_arrays([pa.array([1])] * 2, names=["k", "k"])),
        r"a\.parquet: column 'k' stands 2 times",
    ),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES])
def test_bad_files_end_in_one_line(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "data")
    with pytest.raises(UserError, match=message) as caught:
        open_source(str(tmp_path / "data"), split="val")
    assert str(caught.value).startswith("data.val: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"k": [1]}, {"k": ["1"]}, r"column 'k' is int64 in a\.parquet and string in b\.parquet"),
        ({"other": [1]}, {"k": [1]}, r"column 'k' is missing in a\.parquet"),
        ({"k": [1]}, {"other": [1]}, r"column 'k' is missing in b\.parquet"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_where_it_matters(
    tmp_path: Path, first: dict[str, object], second: dict[str, object], message: str
) -> None:
    write(tmp_path / "a.parquet", {"same": [1]} | first)
    write(tmp_path / "b.parquet", {"same": [2]} | second)
    source = open_source(str(tmp_path), split="train")
    assert read(source, ["same"]).to_pydict() == {"same": [1, 2]}
    with pytest.raises(UserError, match=message):
        list(source.batches(["same", "k"]))


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"income": [1]})
    with pytest.raises(UserError, match=r"data\.test: column 'incom' is missing: did you mean 'income'\?"):
        list(open_source(str(tmp_path), split="test").batches(["incom"]))


def test_a_flipped_bit_names_file_row_group_and_column(tmp_path: Path) -> None:
    table = pa.table({"n": np.arange(300.0), "s": [f"value-{position:04d}" for position in range(300)]})
    path = write(tmp_path / "p.parquet", table, row_group_size=100, write_page_checksum=True, compression="none")
    flip(path, b"value-0150")
    with pytest.raises(UserError, match=r"p\.parquet: row group 1, column 's' is damaged: .*CRC") as caught:
        list(open_source(str(tmp_path), split="train").batches(["n", "s"], rows=10))
    assert "\n" not in str(caught.value)


def test_no_flip_of_a_bit_is_silent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"n": rng.normal(size=200), "s": [str(position % 7) for position in range(200)]})
    path = write(tmp_path / "p.parquet", table, row_group_size=50, write_page_checksum=True)
    whole = path.read_bytes()
    refused = 0
    for position in rng.integers(0, len(whole), 60):
        path.write_bytes(
            whole[:position] + bytes([whole[position] ^ (1 << int(rng.integers(8)))]) + whole[position + 1 :]
        )
        try:
            assert read(open_source(str(tmp_path), split="train"), ["n", "s"]).equals(table)
        except UserError:
            refused += 1
    assert refused > 30


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "p.parquet", {"s": pa.array([b"ok", b"\xff\xfe"]).cast(pa.string(), safe=False)})
    with pytest.raises(UserError, match=r"row group 0, column 's' is damaged: Invalid UTF8"):
        list(open_source(str(tmp_path), split="train").batches(["s"]))


def test_names_in_capitals_and_without_an_ending_are_read(tmp_path: Path) -> None:
    for number, name in enumerate(("a.parquet", "more.PARQUET", "part-00001", "sub/part-00002")):
        write(tmp_path / "data" / name, {"a": [number]})
    (tmp_path / "data" / "NOTES").write_text("no table")
    (tmp_path / "data" / "notes.txt").write_text("no table")
    (tmp_path / "data" / "_SUCCESS").touch()
    found = read(open_source(str(tmp_path / "data"), split="train"), ["a"])
    assert found["a"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("link", "target"), [("loop", "."), ("more/loop", ".."), ("twice.parquet", "a.parquet")])
def test_a_table_that_a_link_shows_twice_is_refused(tmp_path: Path, link: str, target: str) -> None:
    write(tmp_path / "data" / "a.parquet", {"a": [1]})
    (tmp_path / "data" / "more").mkdir()
    (tmp_path / "data" / link).symlink_to(target)
    with pytest.raises(UserError, match=r"^data\.train: a\.parquet and \S+ are one file, which a link shows twice"):
        open_source(str(tmp_path / "data"), split="train")


def test_an_encrypted_file_is_told_so(tmp_path: Path) -> None:
    path = write(tmp_path / "data" / "a.parquet", {"a": [1]})
    path.write_bytes(b"PARE" + path.read_bytes()[4:-4] + b"PARE")
    with pytest.raises(UserError, match=r"a\.parquet: is encrypted, and no key can be given: write it again without"):
        open_source(str(tmp_path / "data"), split="train")


@pytest.mark.parametrize("codes", [None, pa.int8(), pa.int32()])
def test_batches_of_small_files_are_joined(codes: pa.DataType | None, tmp_path: Path) -> None:
    """Each file has a dictionary of its own, 200 values in all: more than codes of eight bits count."""
    expected = []
    for number in range(40):
        values = [f"{number}_{value}" for value in range(5)]
        column = (
            pa.array(values)
            if codes is None
            else pa.array(values).dictionary_encode().cast(pa.dictionary(codes, pa.string()))
        )
        pq.write_table(pa.table({"c": column, "n": range(5)}), tmp_path / f"{number:02d}.parquet")
        expected += values
    batches = list(open_source(str(tmp_path), split="train").batches(["c"], rows=60))
    assert [value for batch in batches for value in batch["c"].to_pylist()] == expected
    assert {batch.num_rows for batch in batches[:-1]} == ({5} if codes == pa.int8() else {60})


def test_two_splits_joined_are_one_after_the_other_wherever_they_lie(tmp_path: Path) -> None:
    def joined(root: Path) -> ParquetSource:
        for split, rows in (("train", [1, 2, 3]), ("val", [4, 5])):
            (root / split).mkdir(parents=True)
            pq.write_table(pa.table({"x": rows, split: rows}), root / split / "part.parquet")
        return open_source(str(root / "train"), split="train").joined(open_source(str(root / "val"), split="val"))

    both = joined(tmp_path / "here")
    assert [value for batch in both.batches(["x"]) for value in batch.column(0).to_pylist()] == [1, 2, 3, 4, 5]
    assert both.where == "data.train"
    assert both.fingerprint() == joined(tmp_path / "elsewhere" / "deeper").fingerprint()
    with pytest.raises(UserError, match="column 'val'"):
        list(both.batches(["val"]))
    train = open_source(str(tmp_path / "here" / "train"), split="train")
    with pytest.raises(UserError, match=r"data.train, data.val: both have the file .*part.parquet"):
        train.joined(open_source(str(tmp_path / "here" / "train"), split="val"))
    (tmp_path / "here" / "val" / "part.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"val/part.parquet"):
        list(both.batches(["x"]))
