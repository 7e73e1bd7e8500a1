"""The order of an epoch's rows and the seeds of its batches: pure functions, so that a position is one integer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
"""Rows that stay neighbours on disk in a windowed order: a block is read with one seek."""


def _generator(*key: int) -> np.random.Generator:
    """Return a counter-based generator that depends on ``key`` alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def batch_seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    """Return the 63-bit seed of everything that is drawn at random in one batch on one rank."""
    return int(np.random.SeedSequence((seed, epoch, batch, rank)).generate_state(1, np.uint64)[0] >> 1)


class EpochOrder:
    """A permutation of ``num_rows`` rows that is computed window by window.

    A table of at most ``window`` rows gets a full permutation. A longer one is cut into blocks of neighbouring rows;
    the blocks are shuffled, then the rows inside each window of blocks: memory and the range of disk that a batch
    touches stay bounded by the window.

    >>> order = EpochOrder(10, seed=0, epoch=0, window=100)
    >>> sorted(order.rows(0, 10).tolist()) == list(range(10))
    True
    """

    def __init__(self, num_rows: int, *, seed: int, epoch: int, window: int, block: int = BLOCK) -> None:
        self.num_rows = num_rows
        self._key = (seed, epoch)
        # one block where all rows fit into a window: shuffled, it is a permutation of the table
        self._block = block if num_rows > window else max(num_rows, 1)
        blocks = -(-num_rows // self._block)
        self._blocks = _generator(*self._key).permutation(blocks)
        self._per_window = max(1, window // self._block)
        # the last block of the table, which may come anywhere, has fewer rows
        sizes = np.minimum(self._block, num_rows - self._blocks * self._block)
        self._starts = np.concatenate([[0], np.add.reduceat(sizes, range(0, blocks, self._per_window))]).cumsum()
        self._cached: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the row numbers at positions ``start`` to ``stop`` (exclusive), shape ``(stop - start,)``."""
        parts = []
        while start < stop:
            index = int(np.searchsorted(self._starts, start, side="right")) - 1
            offset = int(self._starts[index])
            part = self._window(index)[start - offset : stop - offset]
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def window_end(self, position: int) -> int:
        """Return where the window that holds a position ends: up to there, rows come from its blocks alone."""
        return int(self._starts[np.searchsorted(self._starts, position, side="right")])

    def _window(self, index: int) -> NDArray[np.int64]:
        """Return the shuffled rows of one window; the last one asked for is kept."""
        if self._cached[0] != index:
            blocks = self._blocks[index * self._per_window : (index + 1) * self._per_window]
            rows = (blocks[:, None] * self._block + np.arange(self._block)).ravel()
            rows = rows[rows < self.num_rows]
            self._cached = (index, _generator(*self._key, index).permutation(rows))
        return self._cached[1]
