"""How a table is cut: every row group once, in order, about equal rows, whoever reads it."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.errors import UserError
from tabstep.tables.footers import unified_schema
from tabstep.tables.shards import cut_shards, open_shard, owners_of, sorted_files
from tabstep.tables.source import ParquetSource, open_source

FILES = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=8)


@given(files=FILES, share=st.floats(0.01, 1.0))
def test_each_row_is_in_one_shard_and_shards_are_nearly_equal(files: list[list[int]], share: float) -> None:
    groups = [(file, group) for file, rows in enumerate(files) for group, count in enumerate(rows) if count]
    if not groups:
        return
    count = max(1, int(share * len(groups)))
    shards = cut_shards(files, count)
    assert len(shards) == count
    covered = [
        (piece.file, group)
        for shard in shards
        for piece in shard
        for group in range(piece.first, piece.stop)
        if files[piece.file][group]
    ]
    assert covered == groups, "all of them, in the order of the table"
    rows = [sum(sum(files[piece.file][piece.first : piece.stop]) for piece in shard) for shard in shards]
    assert min(rows) > 0
    assert sum(rows) == sum(map(sum, files))


def test_equal_row_groups_make_equal_shards() -> None:
    for count in (1, 2, 4, 8, 16):
        shards = cut_shards([[10] * 8, [10] * 8], count)
        rows = [sum(10 * (piece.stop - piece.first) for piece in shard) for shard in shards]
        assert rows == [160 // count] * count


def test_more_shards_than_row_groups_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.shards: 4 shards of 3 row groups: set data.shards to at most 3"):
        cut_shards([[5, 0, 5], [5]], 4)


@given(shards=st.integers(1, 70), ranks=st.integers(1, 70))
def test_ranks_share_shards_evenly_in_their_order(shards: int, ranks: int) -> None:
    cut = cut_shards([[1]] * shards, "file")
    if shards < ranks:
        with pytest.raises(UserError, match=f"{ranks} ranks of machine 0 and {shards} shards"):
            owners_of(cut, [0] * shards, {0: range(ranks)})
        return
    owners = owners_of(cut, [0] * shards, {0: range(ranks)})
    counts = np.bincount(owners, minlength=ranks)
    assert owners == sorted(owners)
    assert counts.max() - counts.min() <= 1


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    place = tmp_path / "table"
    place.mkdir()
    for number, rows in enumerate((250, 120, 330)):
        part = pa.table({"x": rng.normal(size=rows), "c": rng.integers(0, 9, rows).astype(str)})
        pq.write_table(part, place / f"{number}.parquet", row_group_size=50)
    return place


def shards_of(place: Path, count: int) -> list[ParquetSource]:
    source = open_source(str(place), split="train")
    files = source.footers
    fields = unified_schema(files)
    cut = cut_shards([footer.row_groups for footer in files], count)
    return [open_shard(source, files, shard, fields=fields, memory=None) for shard in cut]


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_rows_of_all_shards_are_those_of_the_table(table: Path, count: int) -> None:
    parts = [pa.Table.from_batches(shard.batches(["x", "c"])) for shard in shards_of(table, count)]
    assert pa.concat_tables(parts).combine_chunks().equals(pq.read_table(table).combine_chunks())


def test_a_shards_digest_is_of_its_own_bytes(table: Path, tmp_path: Path) -> None:
    before = [shard.fingerprint() for shard in shards_of(table, 9)]
    assert len(set(before)) == 9
    copy = tmp_path / "copy"
    shutil.copytree(table, copy)
    assert [shard.fingerprint() for shard in shards_of(copy, 9)] == before
    file = copy / "2.parquet"
    content = bytearray(file.read_bytes())
    start = pq.read_metadata(file).row_group(3).column(0).data_page_offset
    content[start + 40] ^= 1
    file.write_bytes(content)
    after = [shard.fingerprint() for shard in shards_of(copy, 9)]
    assert [one != other for one, other in zip(before, after, strict=True)].count(True) == 1


def test_bytes_of_a_file_belong_to_one_shard_each(table: Path) -> None:
    spans: dict[str, list[tuple[int, int]]] = {}
    for shard in shards_of(table, 9):
        for path, span in shard._contents._spans.items():
            spans.setdefault(path, []).append(span)
    for path, found in spans.items():
        assert found[0][0] == 0
        assert all(one[1] == other[0] for one, other in pairwise(found))
        assert found[-1][1] == Path(path).stat().st_size


def test_a_file_of_two_machines_is_refused(table: Path) -> None:
    footers = open_source(str(table), split="train").footers
    assert [node for node, _ in sorted_files([footers[1:], footers[:1]])] == [1, 0, 0]
    with pytest.raises(UserError, match=r"data.sharded: machines 0 and 1 both have 0.parquet: "):
        sorted_files([footers, footers[:1]])
