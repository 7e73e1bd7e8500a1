"""The batches of a table of virtual shards: each takes its share of rows from every shard, on any number of ranks.

All of it is a function of the rows of the shards, the seed and the epoch. So a rank needs its own shards alone, and a
run goes on with the same batches where it has other ranks than before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tabstep.errors import UserError
from tabstep.training.epoch_order import EpochOrder, batch_seed

LEAST: Final = 2
"""Rows of each shard in each batch: no rank is without any, and a batch normalization has a variance."""


@dataclass(frozen=True, kw_only=True)
class ShardRows:
    """The rows of all shards (``sizes``), and which of these a rank has: ``own``, as they lie in its table.

    ``lie`` are the rows that each shard has in a table, where fewer are used.
    """

    sizes: tuple[int, ...]
    own: tuple[int, ...]
    lie: tuple[int, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of all shards."""
        return sum(self.sizes)

    def head(self, rows: int) -> ShardRows:
        """Return the first rows of each shard, so many in all: the same in each epoch."""
        lie = self.lie or self.sizes
        return replace(self, sizes=tuple(shares(min(rows, self.num_rows), self.sizes)), lie=lie)

    @property
    def starts(self) -> dict[int, int]:
        """Where each of the own shards begins in the rank's table."""
        lie = self.lie or self.sizes
        return dict(zip(self.own, accumulate((lie[shard] for shard in self.own), initial=0), strict=False))

    def least_batch(self) -> int:
        """Return the rows that a batch must have to hold ``LEAST`` of each shard."""
        off = errors(self.sizes)
        # a batch's share is the difference of two, each off by as much
        needed = ((LEAST + 2 * off[shard]) / size for shard, size in enumerate(self.sizes))
        return math.ceil(max(needed) * self.num_rows)

    def num_batches(self, batch_size: int) -> int:
        """Count the batches of an epoch; a tail too short to be one joins the batch before it.

        Raises:
            UserError: a shard has no rows, or a batch has too few for its shards.
        """
        if not min(self.sizes):
            raise UserError(
                f"data.shards: {self.sizes.index(0) + 1} of {len(self.sizes)} shards has no row: leave its file out, "
                "or set fewer shards"
            )
        least = self.least_batch()
        if batch_size < least:
            raise UserError(
                f"data.batch_size: {batch_size} rows hold fewer than {LEAST} of the smallest of {len(self.sizes)} "
                f"shards ({min(self.sizes):,} of {self.num_rows:,} rows): set at least {least}, or fewer data.shards"
            )
        full, tail = divmod(self.num_rows, batch_size)
        return max(1, full + (tail >= least))


def shares(taken: int, sizes: Sequence[int]) -> list[int]:
    """Return how many rows of each shard are among the first ``taken`` of an epoch.

    They add up to ``taken``, none falls when it grows, and each is near its exact share (``errors``): at each half of
    the shards, rows are dealt to the two halves by their sizes.

    >>> shares(0, [3, 3, 2]), shares(4, [3, 3, 2]), shares(8, [3, 3, 2])
    ([0, 0, 0], [2, 1, 1], [3, 3, 2])
    """
    found = [0] * len(sizes)
    _deal(taken, [0, *accumulate(sizes)], 0, len(sizes), found)
    return found


def _deal(taken: int, starts: Sequence[int], low: int, high: int, found: list[int]) -> None:
    """Deal rows to the shards ``low`` to ``high`` (exclusive), which begin at ``starts``."""
    if high - low == 1:
        found[low] = taken
        return
    half = (low + high + 1) // 2
    total = starts[high] - starts[low]
    # the nearest whole number to the left half's share, by integers: the same on every machine
    left = (2 * taken * (starts[half] - starts[low]) + total) // (2 * total) if total else 0
    _deal(left, starts, low, half, found)
    _deal(taken - left, starts, half, high, found)


def errors(sizes: Sequence[int], before: float = 0.0) -> list[float]:
    """Return the rows by which a share of each shard is at most away from the exact one.

    >>> errors([5, 5, 5, 5]), errors([7])
    ([0.75, 0.75, 0.75, 0.75], [0.0])
    """
    if len(sizes) == 1:
        return [before]
    half = (len(sizes) + 1) // 2
    share = sum(sizes[:half]) / max(1, sum(sizes))
    return errors(sizes[:half], before * share + 0.5) + errors(sizes[half:], before * (1 - share) + 0.5)


class ShardOrder:
    """The rows of one rank in each batch of an epoch, as positions in its table.

    >>> rows = ShardRows(sizes=(8, 8), own=(0, 1))
    >>> order = ShardOrder(rows, seed=0, epoch=0, window=100, batch_size=16)
    >>> sorted(order.rows(0).tolist()) == list(range(16))
    True
    """

    def __init__(self, rows: ShardRows, *, seed: int, epoch: int, window: int, batch_size: int) -> None:
        self._rows = rows
        self._batch_size = batch_size
        self.num_batches = rows.num_batches(batch_size)
        self._starts = rows.starts
        self._known: tuple[int, list[int]] = (-1, [])
        self._orders = {
            shard: EpochOrder(
                rows.sizes[shard],
                # of its own: shards of one size would else be in one order
                seed=batch_seed(seed, shard, len(rows.sizes), 0),
                epoch=epoch,
                # the windows of all shards together are one
                window=max(1, window // len(rows.sizes)),
            )
            for shard in rows.own
        }

    def _taken(self, batches: int) -> list[int]:
        """Return the rows of each shard in the first ``batches``; what ends a batch begins the next one."""
        if self._known[0] != batches:
            over = batches == self.num_batches
            sizes = self._rows.sizes
            self._known = (batches, list(sizes) if over else shares(batches * self._batch_size, sizes))
        return self._known[1]

    def rows(self, batch: int) -> NDArray[np.int64]:
        """Return the positions of this rank's rows of a batch, shard by shard."""
        first, end = self._taken(batch), self._taken(batch + 1)
        parts = [self._starts[shard] + order.rows(first[shard], end[shard]) for shard, order in self._orders.items()]
        return np.concatenate(parts)
