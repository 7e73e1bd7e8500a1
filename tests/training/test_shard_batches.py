"""Batches of virtual shards: a bare loop over what ranks get says that their number changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.errors import UserError
from tabstep.training.shard_batches import LEAST, ShardOrder, ShardRows, errors, shares

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=20)


@given(sizes=SIZES, step=st.integers(1, 50))
def test_shares_add_up_never_fall_and_are_near_the_exact_ones(sizes: list[int], step: int) -> None:
    total, off = sum(sizes), errors(sizes)
    before = [0] * len(sizes)
    for taken in range(0, total + 1, step):
        found = shares(taken, sizes)
        assert sum(found) == taken
        assert all(0 <= low <= now <= size for low, now, size in zip(before, found, sizes, strict=True))
        for now, size, bound in zip(found, sizes, off, strict=True):
            assert abs(now - taken * size / total) <= bound + 1e-9
        before = found
    assert shares(total, sizes) == sizes


def batches(
    sizes: tuple[int, ...], ranks: int, *, batch_size: int, epoch: int = 0, window: int = 40
) -> list[list[int]]:
    """Return the rows of each batch by their number in the table, as all ranks together have them."""
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    made: list[list[int]] = []
    for rank in range(ranks):
        own = tuple(range(rank * len(sizes) // ranks, (rank + 1) * len(sizes) // ranks))
        first = int(firsts[own[0]])
        order = ShardOrder(ShardRows(sizes=sizes, own=own), seed=3, epoch=epoch, window=window, batch_size=batch_size)
        for batch in range(order.num_batches):
            rows = order.rows(batch)
            assert len(rows) >= LEAST, "no rank is without rows"
            made += [[]] if batch == len(made) else []
            made[batch] += (rows + first).tolist()
    return made


@given(sizes=st.lists(st.integers(20, 90), min_size=4, max_size=12), data=st.data())
def test_batches_are_the_same_on_any_number_of_ranks(sizes: list[int], data: st.DataObject) -> None:
    rows = ShardRows(sizes=tuple(sizes), own=())
    size = data.draw(st.integers(rows.least_batch(), rows.num_rows))
    alone = batches(tuple(sizes), 1, batch_size=size)
    for ranks in (2, 3, 4):
        assert batches(tuple(sizes), ranks, batch_size=size) == alone
    assert [len(batch) for batch in alone[:-1]] == [size] * (len(alone) - 1)
    assert sorted(row for batch in alone for row in batch) == list(range(sum(sizes))), "each row once an epoch"
    assert batches(tuple(sizes), 1, batch_size=size, epoch=1) != alone


def test_shards_need_not_lie_next_to_each_other_on_a_rank() -> None:
    rows = ShardRows(sizes=(40, 50, 60), own=(0, 2))
    assert rows.starts == {0: 0, 2: 40}
    order = ShardOrder(rows, seed=0, epoch=0, window=1000, batch_size=50)
    seen = np.concatenate([order.rows(batch) for batch in range(order.num_batches)])
    assert sorted(seen.tolist()) == list(range(100))


def test_a_head_keeps_the_first_rows_of_each_shard() -> None:
    rows = ShardRows(sizes=(100, 100), own=(1,)).head(60)
    assert rows.sizes == (30, 30)
    order = ShardOrder(ShardRows(sizes=(100, 100), own=(0, 1)).head(60), seed=0, epoch=4, window=1000, batch_size=60)
    assert sorted(order.rows(0).tolist()) == [*range(30), *range(100, 130)]


def test_a_window_bounds_what_a_batch_touches() -> None:
    order = ShardOrder(ShardRows(sizes=(50_000,), own=(0,)), seed=0, epoch=0, window=8192, batch_size=512)
    blocks = {int(row) // 4096 for batch in range(16) for row in order.rows(batch)}
    assert len(blocks) <= 3


@pytest.mark.parametrize(
    ("sizes", "batch_size", "line"),
    [
        (
            (64, 64, 64, 64),
            10,
            r"data.batch_size: 10 rows hold fewer than 2 of the smallest of 4 shards .64 of 256 rows",
        ),
        ((64, 0), 60, r"data.shards: 2 of 2 shards has no row"),
    ],
)
def test_batches_too_small_for_their_shards_are_refused(sizes: tuple[int, ...], batch_size: int, line: str) -> None:
    with pytest.raises(UserError, match=line):
        ShardRows(sizes=sizes, own=(0,)).num_batches(batch_size)
