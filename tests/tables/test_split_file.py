from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.errors import UserError
from tabstep.tables.source import open_source
from tabstep.tables.split_file import split_table
from tabstep.tables.splits import Cut


@pytest.fixture
def table(tmp_path: Path) -> Path:
    columns = {
        "row": np.arange(1000),
        "k": pa.concat_arrays([pa.array(["a", "b"] * 250), pa.array(["c", "b"] * 250)]).dictionary_encode(),
        "y": ["no"] * 850 + ["yes"] * 150,
    }
    pq.write_table(pa.table(columns), tmp_path / "all.parquet", row_group_size=64)
    return tmp_path / "all.parquet"


def test_three_files_hold_every_row_once_with_equal_shares_of_the_classes(table: Path, tmp_path: Path) -> None:
    counts = split_table(str(table), tmp_path / "out", cut=Cut(label=("y",), seed=3), val_share=0.16, test_share=0.2)
    assert counts == {"train": 640, "val": 160, "test": 200}
    parts = {split: pq.read_table(tmp_path / "out" / split / f"{split}.parquet") for split in counts}
    assert {split: part["y"].to_pylist().count("yes") for split, part in parts.items()} == {
        "train": 96,
        "val": 24,
        "test": 30,
    }
    rows = [part["row"].to_pylist() for part in parts.values()]
    assert all(row == sorted(row) for row in rows)
    assert sorted(row for part in rows for row in part) == list(range(1000))
    whole = pq.read_table(table)
    for part in parts.values():
        assert part.to_pydict() == whole.take(part["row"]).to_pydict()


def test_pages_carry_checksums_and_row_groups_are_filled(table: Path, tmp_path: Path) -> None:
    split_table(str(table), tmp_path / "out", cut=Cut(), val_share=0.0, test_share=0.2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test", "train"]
    path = tmp_path / "out" / "train" / "train.parquet"
    assert pq.ParquetFile(path).num_row_groups == 1
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="CRC"):
        list(open_source(str(path), split="train").batches(["row", "k", "y"]))


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n" + "1,a\n2,b\n" * 50, encoding="utf-8")
    assert split_table(str(tmp_path / "t.csv"), tmp_path, cut=Cut(label=("y",)), val_share=0.1, test_share=0.1) == {
        "train": 80,
        "val": 10,
        "test": 10,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": Cut(label=("why",))}, "column 'why' is missing"),
        ({"cut": Cut(label=("y",)), "val_share": 0.6, "test_share": 0.4}, "together below 1"),
        ({"cut": Cut(label=("y",)), "val_share": 0.0001}, "val would have none of the 1000 rows"),
    ],
)
def test_mistakes_write_nothing(table: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_table(str(table), tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten_unasked(table: Path, tmp_path: Path) -> None:
    split_table(str(table), tmp_path / "out", cut=Cut(label=("y",)))
    with pytest.raises(UserError, match="exists already"):
        split_table(str(table), tmp_path / "out", cut=Cut(label=("y",)))
    assert split_table(str(table), tmp_path / "out", cut=Cut(label=("y",)), val_share=0.5, overwrite=True)["val"] == 500
