from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.errors import UserError
from tabstep.tables.folds import assign_folds, deal, deal_groups, train_and_val
from tabstep.tables.source import ParquetSource, open_source
from tabstep.tables.splits import Cut


def source_of(path: Path, **columns: object) -> ParquetSource:
    pq.write_table(pa.table(columns), path / "t.parquet")
    return open_source(str(path / "t.parquet"), split="train")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(2, 9), st.integers(0, 5))
def test_each_fold_has_its_part_of_each_class_and_of_all_rows_within_one(
    codes: list[int], folds: int, seed: int
) -> None:
    array = np.array(codes)
    numbers = deal(array, folds, seed)
    for rows in (numbers, *(numbers[array == code] for code in set(codes))):
        sizes = np.bincount(rows, minlength=folds + 1)
        assert sizes[0] == 0
        assert len(sizes) == folds + 1
        assert sizes[1:].max() - sizes[1:].min() <= 1
    assert np.array_equal(numbers, deal(array, folds, seed))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=80), st.integers(2, 5))
def test_groups_never_cross_and_none_is_larger_than_it_must_be(pairs: list[tuple[int, int]], folds: int) -> None:
    groups, codes = (np.array(column) for column in zip(*pairs, strict=True))
    groups = np.unique(groups, return_inverse=True)[1]
    numbers = deal_groups(groups, codes, folds, seed=1)
    assert all(len(set(numbers[groups == group])) == 1 for group in set(groups))
    if set(codes) == {0}:  # longest first into the emptiest is within one group of even
        sizes = np.bincount(numbers, minlength=folds + 1)[1:]
        assert sizes.max() - sizes.min() <= np.bincount(groups).max()


def test_the_folds_of_a_table_are_a_partition(tmp_path: Path) -> None:
    rows = source_of(tmp_path, y=["a", "b", "b"] * 20, x=list(range(60)))
    cut = Cut(label=("y",), seed=3)
    numbers = assign_folds(rows, cut, 4)
    seen = []
    for fold in range(1, 5):
        train, val = (_column(part, "x") for part in train_and_val(rows, numbers, fold, cut))
        assert sorted(train + val) == list(range(60))
        assert len(val) == 15
        assert sum(value % 3 == 0 for value in val) == 5
        seen += val
    assert sorted(seen) == list(range(60))
    assert not np.array_equal(numbers, assign_folds(rows, Cut(label=("y",), seed=4), 4))


def test_a_group_stands_in_one_fold_of_a_table(tmp_path: Path) -> None:
    customers = [f"c{row * row % 17}" for row in range(200)]
    rows = source_of(tmp_path, y=[row % 2 for row in range(200)], customer=customers)
    numbers = assign_folds(rows, Cut(label=("y",), group="customer"), 3)
    assert set(numbers) == {1, 2, 3}
    assert all(len({n for n, each in zip(numbers, customers, strict=True) if each == c}) == 1 for c in set(customers))


def test_in_time_train_lies_before_val_and_grows(tmp_path: Path) -> None:
    days = np.random.default_rng(0).permutation(np.repeat(np.arange(25), 4))
    rows, cut = source_of(tmp_path, y=[0, 1] * 50, day=days), Cut(label=("y",), time="day")
    numbers = assign_folds(rows, cut, 4)
    assert np.bincount(numbers).tolist() == [20] * 5  # 25 days in five parts
    for fold in range(1, 5):
        train, val = (_column(part, "day") for part in train_and_val(rows, numbers, fold, cut))
        assert max(train) < min(val)
        assert len(train) == 20 * fold
        assert len(val) == 20


@pytest.mark.parametrize(
    ("columns", "cut", "folds", "message"),
    [
        ({"y": ["a"] * 9 + ["b"] * 2}, Cut(label=("y",)), 3, "class 'b' has 2 rows, fewer than the 3 folds"),
        ({"y": [0, 1], "z": [0, 1]}, Cut(label=("y", "z")), 3, "3 folds of 2 rows leave some without rows"),
        ({"y": [0, 1] * 4, "g": [1] * 4 + [2] * 4}, Cut(label=("y",), group="g"), 3, "'g' has 2 values"),
        (
            {"y": [0] * 7 + [1] * 2, "g": [1, 2, 3, 4, 5, 6, 7, 8, 8]},
            Cut(label=("y",), group="g"),
            2,
            "class '1' has 1 values of 'g', fewer than the 2 folds",
        ),
        ({"y": [0, 1] * 4, "t": [1] * 7 + [2]}, Cut(label=("y",), time="t"), 2, "rows of one time stay together"),
        (
            {"y": [0, 1] * 4 + [2], "t": [*range(9)]},
            Cut(label=("y",), time="t"),
            2,
            "class '2' first comes in part 3 in the order of 't'",
        ),
        ({"y": [0, 1], "t": [1, None]}, Cut(label=("y",), time="t"), 2, "row 1 has no 't'"),
        ({"y": [0, 1], "day": [1, 2]}, Cut(label=("y",), time="days"), 2, "did you mean 'day'"),
    ],
)
def test_folds_that_cannot_be(tmp_path: Path, columns: dict[str, object], cut: Cut, folds: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_folds(source_of(tmp_path, **columns), cut, folds)


def test_a_class_whose_rows_came_into_one_fold_is_refused(tmp_path: Path) -> None:
    """Groups are dealt by their most frequent class, so that one of a few rows in two groups may fall together."""
    groups = np.repeat(np.arange(4), 10)
    labels = ["b" if row in (0, 10) else "a" for row in range(40)]
    rows = source_of(tmp_path, y=labels, g=groups)
    outcomes = set()
    for seed in range(20):
        try:
            numbers = assign_folds(rows, Cut(label=("y",), group="g", seed=seed), 2)
            outcomes.add(f"apart: {numbers[0] != numbers[10]}")
        except UserError as error:
            outcomes.add(str(error))
    refusal = "data.folds: all rows of class 'b' came into one fold: set another seed or fewer folds"
    assert outcomes == {"apart: True", refusal}


def _column(source: ParquetSource, name: str) -> list[int]:
    return [value for batch in source.batches([name]) for value in batch.column(0).to_pylist()]
