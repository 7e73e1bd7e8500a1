from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.training.epoch_order import EpochOrder, batch_seed


@given(
    num_rows=st.integers(1, 400),
    window=st.integers(1, 100),
    block=st.integers(1, 30),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 100),
)
def test_each_epoch_visits_every_row_once(num_rows: int, window: int, block: int, seed: int, epoch: int) -> None:
    order = EpochOrder(num_rows, seed=seed, epoch=epoch, window=window, block=block)
    assert sorted(order.rows(0, num_rows).tolist()) == list(range(num_rows))


@given(cuts=st.lists(st.integers(0, 300), max_size=6), window=st.integers(1, 300))
def test_rows_do_not_depend_on_how_they_are_asked_for(cuts: list[int], window: int) -> None:
    whole = EpochOrder(300, seed=1, epoch=2, window=window, block=7).rows(0, 300)
    asked = EpochOrder(300, seed=1, epoch=2, window=window, block=7)
    edges = [0, *sorted(cuts), 300]
    parts = [asked.rows(start, stop) for start, stop in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_windowed_order_stays_within_its_blocks_and_mixes_them() -> None:
    order = EpochOrder(10_000, seed=0, epoch=0, window=1000, block=100)
    first = order.rows(0, 1000)
    blocks = set((first // 100).tolist())
    assert len(blocks) == 10  # memory and disk: a window touches just its blocks
    assert max(blocks) - min(blocks) > 20  # the blocks come from all over the table
    assert len(set((first[:50] // 100).tolist())) > 5  # and are mixed within the window


def test_epochs_and_seeds_give_other_orders() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        return EpochOrder(1000, seed=seed, epoch=epoch, window=10_000).rows(0, 1000).tolist()

    assert rows(0, 0) == rows(0, 0)
    assert rows(0, 0) != rows(0, 1)
    assert rows(0, 0) != rows(1, 0)
    assert abs(np.corrcoef(rows(0, 0), rows(0, 1))[0, 1]) < 0.15


def test_batch_seeds_differ_by_each_part_and_fit_into_63_bits() -> None:
    seeds = {batch_seed(*key) for key in np.ndindex(3, 5, 7, 2)}
    assert len(seeds) == 3 * 5 * 7 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("num_rows", [4095, 4096, 4097])
def test_a_table_at_the_edge_of_a_block(num_rows: int) -> None:
    rows = EpochOrder(num_rows, seed=0, epoch=0, window=4096).rows(0, num_rows)
    assert sorted(rows.tolist()) == list(range(num_rows))
