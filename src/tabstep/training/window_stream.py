"""An epoch's rows from a table that stays on disk: window after window, the next one read while one is used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, pairwise
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from operator import itemgetter
from typing import Any

import numpy as np

from tabstep.encoding.encoded_table import EncodedTable
from tabstep.encoding.stored_rows import RowArrays
from tabstep.training.epoch_order import BLOCK, EpochOrder

Span = tuple[int, int]
"""Positions of an epoch's order, from the first to the last (exclusive)."""


class WindowStream:
    """The batches of an epoch, or of the rest of one, on one rank: the rows that the order has at their positions.

    Whole blocks of the next window are read from one end of the table to the other and laid into a buffer in the order
    in which batches take them, on a thread beside. Of a window, only the rows of this rank are kept, so that memory is
    that of two windows on all ranks together, however many rows the table has.

    Args:
        batches: numbers of the batches.
        span: where a batch lies; spans ascend and do not overlap.
    """

    def __init__(self, table: EncodedTable, order: EpochOrder, batches: range, span: Callable[[int], Span]) -> None:
        self.table = table
        self.order = order
        self.batches = batches
        self.span = span

    def __iter__(self) -> Iterator[RowArrays]:
        windows = self._windows()
        window, used = RowArrays(*(np.empty(0),) * 3), 0
        for batch in self.batches:
            start, stop = self.span(batch)
            parts = []
            while start < stop:
                if used == len(window.y):
                    window, used = next(windows), 0
                count = min(stop - start, len(window.y) - used)
                # copied at once: the next window's coming may write over this one
                parts.append(window.map(itemgetter(slice(used, used + count))).map(np.copy))
                start, used = start + count, used + count
            rows = _joined(parts or [self.table.part(0, 0)])
            if batch == self.batches[-1]:  # nobody asks for more, and the buffers must not stay
                windows.close()
                del window
            yield rows

    def _windows(self) -> Generator[RowArrays, None, None]:
        """Yield this rank's rows of window after window; what was yielded is written over after the next one."""
        buffers = [_Buffer(self.table.arrays), _Buffer(self.table.arrays)]
        pool = ThreadPoolExecutor(max_workers=1)
        waiting: Future[RowArrays] | None = None
        try:
            for number, spans in enumerate(self._by_window()):
                # before the one before it is given out: a buffer is read into while the other is used
                coming = pool.submit(self._fill, buffers[number % 2], spans)
                if waiting is not None:
                    yield waiting.result()
                waiting = coming
            if waiting is not None:
                yield waiting.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _by_window(self) -> Iterator[list[Span]]:
        """Yield the spans of each window, cut at its edges."""

        def cut() -> Iterator[tuple[int, Span]]:
            for start, stop in map(self.span, self.batches):
                while start < stop:
                    end = min(stop, self.order.window_end(start))
                    yield self.order.window_end(start), (start, end)
                    start = end

        for _, group in groupby(cut(), key=itemgetter(0)):
            yield [span for _, span in group]

    def _fill(self, buffer: _Buffer, spans: list[Span]) -> RowArrays:
        """Read the rows of some spans of one window into the buffer, block by block in the order of the files."""
        rows = np.concatenate([self.order.rows(*span) for span in spans])
        target = buffer.of(len(rows))
        places = np.argsort(rows)
        rows = rows[places]
        edges = [0, *np.flatnonzero(np.diff(rows // BLOCK)) + 1, len(rows)]
        for first, last in pairwise(edges):
            start = int(rows[first])
            # from the first to the last row that is wanted of the block
            block = self.table.part(start, int(rows[last - 1]) + 1)
            for array, read in zip(target.present, block.present, strict=True):
                array[places[first:last]] = read[rows[first:last] - start]
        return target


class _Buffer:
    """Memory for the rows of a window, kept for the one after the next."""

    def __init__(self, like: RowArrays) -> None:
        self._like = like
        self._rows = like.map(lambda array: np.empty((0, *array.shape[1:]), array.dtype))

    def of(self, rows: int) -> RowArrays:
        """Return room for so many rows, over what was there before."""
        if len(self._rows.y) < rows:
            # first, or both would be in memory
            del self._rows
            self._rows = self._like.map(lambda array: _mapped((rows, *array.shape[1:]), array.dtype))
        return self._rows.map(itemgetter(slice(rows)))


def _mapped(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Return an array in pages of its own, which the system has back at once when it is let go.

    The C library would take it from a heap that others lie in too, where holes stay from epoch to epoch.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer(mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS), dtype).reshape(shape)


def _joined(parts: list[RowArrays]) -> RowArrays:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part.present for part in parts), strict=True)
    return RowArrays(*(np.concatenate(column) for column in columns))
