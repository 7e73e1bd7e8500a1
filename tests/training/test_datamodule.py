from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tabstep.training.datamodule import Batch, EvalLoader, TrainLoader, num_batches
from tabstep.training.epoch_order import EpochOrder


def tensors(rows: int) -> Batch:
    """Rows that can be told apart by each of their parts."""
    number = torch.arange(rows)
    return Batch(number[:, None].float(), number[:, None].int(), number, 0.5 * number.float() if rows % 2 else None)


def train_rows(rows: int, batch_size: int, *, start: int = 0, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    order = EpochOrder(rows, seed=3, epoch=1, window=10_000)
    total = num_batches(rows, batch_size, world_size)
    loader = TrainLoader(
        tensors(rows), order, batch_size=batch_size, total=total, start=start, rank=rank, world_size=world_size
    )
    batches = list(loader)
    assert len(batches) == len(loader)
    for x_num, x_cat, y, weight in batches:
        assert x_num[:, 0].long().tolist() == x_cat[:, 0].tolist() == y.tolist()
        assert (weight is None) if rows % 2 == 0 else torch.equal(2.0 * weight, y.float())
    return [batch.y.tolist() for batch in batches]


@given(rows=st.integers(1, 300), batch_size=st.integers(1, 50))
def test_an_epoch_has_every_row_once_and_goes_on_from_any_batch(rows: int, batch_size: int) -> None:
    whole = train_rows(rows, batch_size)
    assert sorted(row for batch in whole for row in batch) == list(range(rows))
    for start in (0, 1, len(whole) // 2, len(whole) - 1):
        assert train_rows(rows, batch_size, start=start) == whole[start:]


@given(rows=st.integers(8, 300), batch_size=st.integers(8, 50), world_size=st.integers(2, 4))
def test_ranks_share_the_global_batch_and_none_goes_without_two_rows(
    rows: int, batch_size: int, world_size: int
) -> None:
    parts = [train_rows(rows, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    order = EpochOrder(rows, seed=3, epoch=1, window=10_000).rows(0, rows).tolist()
    joined = [row for batch in zip(*parts, strict=True) for share in batch for row in share]
    assert joined == order
    assert min(len(share) for part in parts for share in part) >= 2


@pytest.mark.parametrize(
    ("rows", "batch_size", "world_size", "count"),
    [
        (100, 100, 1, 1),
        (101, 100, 1, 1),
        (102, 100, 1, 2),
        (103, 100, 2, 1),
        (104, 100, 2, 2),
        (1, 100, 1, 1),
        (3, 1, 1, 3),
    ],
)
def test_a_tail_too_short_joins_the_batch_before_it(rows: int, batch_size: int, world_size: int, count: int) -> None:
    assert num_batches(rows, batch_size, world_size) == count


@given(rows=st.integers(1, 200), batch_size=st.integers(1, 64), world_size=st.integers(1, 4))
def test_evaluation_counts_each_row_once_in_as_many_batches_on_each_rank(
    rows: int, batch_size: int, world_size: int
) -> None:
    loaders = [
        EvalLoader(tensors(rows), batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    found = [[batch.y.tolist() for batch in loader] for loader in loaders]
    assert {len(part) for part in found} == {len(loaders[0])}
    assert [row for part in found for batch in part for row in batch] == list(range(rows))
    assert max(len(batch) for part in found for batch in part) <= batch_size + 1
