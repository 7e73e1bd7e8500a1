from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.errors import UserError
from tabstep.tables.source import open_source
from tabstep.tables.splits import (
    Cut,
    cut_rows,
    draw,
    draw_groups,
    draw_latest,
    hold_out,
    label_strata,
    labeled,
    locate_splits,
)


def touch(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def test_nothing_set_is_the_built_in_table() -> None:
    assert locate_splits(None, None, None, None) == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/train.parquet", "val/val.parquet", "test/test.parquet"], ["train", "val", "test"]),
        (["train.parquet", "test.parquet", "README.md"], ["train.parquet", "test.parquet"]),
        (["train/part-0.parquet", "val.pq"], ["train", "val.pq"]),
    ],
)
def test_layouts_below_path(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    root = touch(tmp_path, *names)
    located = locate_splits(root, None, None, None)
    assert list(located.values()) == [f"{root}/{name}" for name in expected]


def test_a_location_of_its_own_wins(tmp_path: Path) -> None:
    root = touch(tmp_path, "train.parquet", "validation/v.parquet")
    assert locate_splits(root, None, "elsewhere", None) == {"train": f"{root}/train.parquet", "val": "elsewhere"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.parquet", "validation.parquet"], "holds 'validation.parquet', and the split is called 'val'"),
        (["train.parquet", "train/a.parquet"], r"holds train twice \(train, train.parquet\)"),
        (["a.parquet"], r"neither train/ nor train.parquet or train.csv \(there is a.parquet\)"),
    ],
)
def test_unclear_layouts_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        locate_splits(touch(tmp_path, *names), None, None, None)


def test_locations_that_cannot_train_are_refused(tmp_path: Path) -> None:
    root = touch(tmp_path, "train.parquet", "test.parquet")
    with pytest.raises(UserError, match=r"data.train: is missing, test alone cannot train"):
        locate_splits(None, None, None, "x")
    with pytest.raises(UserError, match=r"data.train: .* holds several splits: set data.path="):
        locate_splits(None, root, None, None)
    with pytest.raises(UserError, match=r"is a file, a directory is due"):
        locate_splits(f"{root}/train.parquet", None, None, None)
    with pytest.raises(UserError, match=r"data.path: no such directory"):
        locate_splits(f"{root}/nothing", None, None, None)


@given(
    codes=st.lists(st.integers(0, 4), min_size=1, max_size=300),
    shares=st.lists(st.floats(0.0, 0.33), min_size=1, max_size=3),
    seed=st.integers(0, 9),
)
def test_each_class_gives_each_share_its_part_exact_to_one_row(
    codes: list[int], shares: list[float], seed: int
) -> None:
    classes = np.array(codes)
    part = draw(classes, shares, seed)
    assert np.array_equal(part, draw(classes, shares, seed))
    for number, share in enumerate(shares, start=1):
        assert abs(np.count_nonzero(part == number) - len(codes) * share) <= len(shares)
        for code in set(codes):
            wanted = np.count_nonzero(classes == code) * share
            assert abs(np.count_nonzero((part == number) & (classes == code)) - wanted) <= len(shares)


def test_a_draw_is_not_the_order_of_the_file() -> None:
    held = np.flatnonzero(draw(np.zeros(1000, dtype=int), [0.2], seed=0))
    assert len(held) == 200
    assert 400 < held.mean() < 600
    assert not np.array_equal(held, np.flatnonzero(draw(np.zeros(1000, dtype=int), [0.2], seed=1)))


def test_hold_out_is_stratified_and_complete(tmp_path: Path) -> None:
    labels = ["a"] * 700 + ["b"] * 250 + [None] * 50
    table = pa.table({"row": np.arange(1000), "y": labels})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=90)
    source = open_source(str(tmp_path), split="train")
    train, val = hold_out(source, Cut(label=("y",)), 0.2)
    codes, names = label_strata(val, "y")
    assert dict(zip(names, np.bincount(codes).tolist(), strict=True)) == {"a": 140, "b": 50, None: 10}
    rows = [b.column(0).to_pylist() for part in (train, val) for b in part.batches(["row"])]
    assert sorted(row for batch in rows for row in batch) == list(range(1000))
    assert (train.split, val.split) == ("train", "val")
    several = hold_out(source, Cut(label=("y", "row")), 0.1)[1]
    assert several.num_rows == 100


def test_hold_out_leaves_no_split_empty(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"data.val_share: 0.1 of 2 rows leaves a split without rows"):
        hold_out(open_source(str(tmp_path), split="train"), Cut(label=("y",)), 0.1)


@given(groups=st.lists(st.integers(0, 30), min_size=1, max_size=200), seed=st.integers(0, 5))
def test_a_group_is_never_cut(groups: list[int], seed: int) -> None:
    codes = np.unique(groups, return_inverse=True)[1]
    part = draw_groups(codes, codes % 2, [0.2, 0.1], seed)
    assert all(len(set(part[codes == group])) == 1 for group in set(codes))


def test_shares_of_groups_are_those_of_their_rows_in_each_class() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 20, 1000)
    groups = np.repeat(np.arange(1000), sizes)
    classes = np.repeat(rng.random(1000) < 0.3, sizes).astype(np.int64)
    part = draw_groups(groups, classes, [0.2, 0.1], seed=1)
    for number, share in ((1, 0.2), (2, 0.1)):
        for code in (0, 1):
            found = np.mean(part[classes == code] == number)
            assert found == pytest.approx(share, abs=20 / np.count_nonzero(classes == code))
    assert not np.array_equal(part, draw_groups(groups, classes, [0.2, 0.1], seed=2))


@given(times=st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_no_row_of_a_later_split_is_earlier(times: list[int]) -> None:
    values = np.array(times)
    part = draw_latest(values, [0.2, 0.1])
    later = {0: values[part == 0], 1: values[part == 1], 2: values[part == 2]}
    for first, second in ((0, 1), (1, 2), (0, 2)):
        if len(later[first]) and len(later[second]):
            assert later[first].max() < later[second].min()


def test_a_split_by_time_has_its_share_where_no_times_are_equal() -> None:
    part = draw_latest(np.random.default_rng(0).permutation(1000), [0.16, 0.2])
    assert np.bincount(part).tolist() == [640, 160, 200]


def test_columns_of_groups_and_times_are_named_where_they_are_missing(tmp_path: Path) -> None:
    days = pa.array([1, 2, None], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"day": days, "y": [0, 1, 0]}), tmp_path / "t.parquet")
    source = open_source(str(tmp_path), split="train")
    with pytest.raises(UserError, match=r"data.train: has no column 'days' to split by time: did you mean 'day'"):
        cut_rows(source, Cut(time="days"), [0.2])
    with pytest.raises(UserError, match=r"data.train: has no column 'user' to split by group"):
        cut_rows(source, Cut(group="user"), [0.2])
    with pytest.raises(UserError, match=r"data.train: row 2 has no 'day', by which it is split"):
        cut_rows(source, Cut(time="day"), [0.2])


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"row": [0, 1, 2, 3], "y": ["a", None, "b", None]}), tmp_path / "t.parquet")
    source = open_source(str(tmp_path), split="val")
    kept = labeled(source, ["y"])
    assert [batch.column(0).to_pylist() for batch in kept.batches(["row"])] == [[0, 2]]
    assert labeled(kept, ["y"]) is kept
