"""What one pass over a table of any length keeps in bounded memory: moments, a sample of rows, counts of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = 2**64 - 1


def runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of an ascending array and how often each stands there.

    ``np.unique`` of numpy 2.4 would sort or hash it again, which takes twenty times as long.

    >>> [part.tolist() for part in runs(np.array([1.0, 1.0, 4.0]))]
    [[1.0, 4.0], [2, 1]]
    """
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    return ordered[first], np.diff(first, append=len(ordered))


def row_keys(first_row: int, count: int, seed: int) -> np.ndarray:
    """Return ``(count,)`` uint64, uniform and a pure function of (seed, row number): SplitMix64 as a counter.

    >>> row_keys(0, 4, seed=1)[2:].tolist() == row_keys(2, 2, seed=1).tolist()
    True
    """
    # as a Python int, for a numpy scalar warns of the overflow that an array wraps in silence
    start = np.uint64((_mix_int(seed) + first_row * _GOLDEN) & _MASK)
    keys: np.ndarray = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + start
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(31)
    return keys


def _mix_int(seed: int) -> int:
    value = (seed * 2 + 1) * _GOLDEN & _MASK
    return (value ^ (value >> 29)) * 0xBF58476D1CE4E5B9 & _MASK


class RowSample:
    """A uniform sample of about ``limit`` rows of a table of ``num_rows``; all of them when there are not more.

    Which rows are taken depends on the seed and the row number alone, not on how the rows are cut into batches.

    >>> sample = RowSample(num_columns=1, num_rows=3, limit=100, seed=0)
    >>> sample.add(np.array([[5.0, np.nan, 4.0]]), 0)
    >>> sample.column(0).tolist()
    [4.0, 5.0]
    """

    def __init__(self, *, num_columns: int, num_rows: int, limit: int, seed: int) -> None:
        self._all = num_rows <= limit
        self._threshold = np.uint64(_MASK if self._all else int(2**64 * limit / num_rows))
        capacity = num_rows if self._all else min(num_rows, limit + int(8 * limit**0.5))  # 8 sigma of the binomial
        self._values = np.empty((num_columns, capacity))
        self._seed = seed
        self._size = 0

    def add(self, block: np.ndarray, first_row: int) -> None:
        """Take from ``block`` ``(num_columns, n)``, whose first column is row ``first_row`` of the table."""
        self.append(block if self._all else block[:, self.mask(first_row, block.shape[1])])

    def append(self, block: np.ndarray) -> None:
        """Take all of ``block``: rows that ``mask`` says are in the sample."""
        # so far above what is expected that rows beyond it may be dropped: memory stays what it was
        count = min(block.shape[1], self._values.shape[1] - self._size)
        self._values[:, self._size : self._size + count] = block[:, :count]
        self._size += count

    def mask(self, first_row: int, count: int) -> np.ndarray:
        """Return ``(count,)`` bool: whether each of the rows from ``first_row`` on is in the sample."""
        if self._all:
            return np.ones(count, dtype=bool)
        return row_keys(first_row, count, self._seed) < self._threshold

    def __getstate__(self) -> dict[str, Any]:
        """Send the rows that there are, not the room for others: one that was sent takes no more."""
        return {**vars(self), "_values": self.values.copy()}

    @property
    def values(self) -> np.ndarray:
        """The sampled rows so far, ``(num_columns, rows)``, in the order of the table; not a copy."""
        return self._values[:, : self._size]

    def column(self, index: int) -> np.ndarray:
        """Return the sampled numbers of one column in ascending order, without NaN."""
        values = self._values[index, : self._size]
        return np.sort(values[~np.isnan(values)])


@dataclass(frozen=True, kw_only=True)
class BlockMoments:
    """What ``Moments`` takes of one block: each is ``(num_columns,)``; ``squares`` are those around the mean."""

    rows: int
    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def of(cls, block: np.ndarray) -> BlockMoments:
        """Summarize ``block`` ``(num_columns, n)``; NaN is not counted."""
        present = ~np.isnan(block)
        count = present.sum(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(present, block, 0.0).sum(axis=1) / np.maximum(count, 1)
            # around the block's own mean: a sum of squares less the square of the sum loses every digit of a large mean
            centred = np.where(present, block - mean[:, None], 0.0)
            squares = np.square(centred, out=centred).sum(axis=1)
        return cls(
            rows=block.shape[1],
            count=count,
            mean=mean,
            squares=squares,
            minimum=np.fmin.reduce(block, axis=1, initial=np.inf),
            maximum=np.fmax.reduce(block, axis=1, initial=-np.inf),
        )


class Moments:
    """Exact count, mean, standard deviation and range of each column, merged over blocks (Chan et al., 1979).

    >>> moments = Moments(1)
    >>> moments.add(np.array([[1.0, np.nan]])); moments.add(np.array([[3.0]]))
    >>> int(moments.count[0]), float(moments.mean[0]), float(moments.std[0])
    (2, 2.0, 1.0)
    """

    def __init__(self, num_columns: int) -> None:
        self.rows = 0
        self.count = np.zeros(num_columns, dtype=np.int64)
        self.mean = np.zeros(num_columns)
        self.minimum = np.full(num_columns, np.inf)
        self.maximum = np.full(num_columns, -np.inf)
        self._squares = np.zeros(num_columns)

    def add(self, block: np.ndarray) -> None:
        """Merge ``block`` ``(num_columns, n)``; NaN is not counted."""
        self.merge(BlockMoments.of(block))

    def merge(self, block: BlockMoments) -> None:
        """Merge what was summarized of a block; the order of the blocks decides on the last bits."""
        with np.errstate(over="ignore", invalid="ignore"):
            share = block.count / np.maximum(self.count + block.count, 1)
            delta = block.mean - self.mean
            # Chan's formula: the means' distance adds to the squares of both
            self._squares += block.squares + delta * delta * (self.count * share)
            self.mean = self.mean + delta * share
        self.count = self.count + block.count
        self.rows += block.rows
        self.minimum = np.fmin(self.minimum, block.minimum)
        self.maximum = np.fmax(self.maximum, block.maximum)

    def join(self, other: Moments) -> None:
        """Take the rows of another table, which follow these."""
        self.merge(
            BlockMoments(
                rows=other.rows,
                count=other.count,
                mean=other.mean,
                squares=other._squares,
                minimum=other.minimum,
                maximum=other.maximum,
            )
        )

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation; not finite where squares overflow float64."""
        return np.sqrt(self._squares / np.maximum(self.count, 1))


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Distinct values by descending count, ties by text. ``error`` bounds how much a count is too low."""

    values: pa.Array
    counts: np.ndarray
    error: int


class ValueCounts:
    """Counts of the distinct values of one column, exact up to ``capacity`` values.

    Above it the smallest counts are dropped (Misra and Gries, 1982): a value whose share of the rows exceeds
    1 / capacity is never lost, and ``Counted.error`` says by how much a count may be too low.

    >>> counts = ValueCounts(capacity=10)
    >>> counts.add(pa.array(["b", "a", None, "b"]))
    >>> counts.finish().values.to_pylist(), counts.finish().counts.tolist()
    (['b', 'a'], [2, 1])
    """

    def __init__(self, capacity: int, *, max_bytes: int = 2**28) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._error = 0
        self._pending: list[pa.Table] = []
        self._size = 0
        self._bytes = 0

    def add(self, text: pa.Array) -> None:
        """Count the values of a string array; null is not a value."""
        self.merge(value_counts(text))

    def merge(self, counted: pa.Table) -> None:
        """Take what ``value_counts`` returned; the order decides on what is dropped."""
        self._push(counted)
        # at twice the capacity, so that what a compaction costs is shared by as many values as it drops
        if self._size > 2 * self._capacity or self._bytes > 2 * self._max_bytes:
            self._replace(self._prune(self._compact()))

    def join(self, other: ValueCounts) -> None:
        """Take the counts of the rows that follow: exact where both are, else as bounded as they are (Agarwal 2012)."""
        self._error += other._error
        for table in other._pending:
            self.merge(table)

    def compact(self) -> None:
        """Bring together what was counted, as it is before it is sent."""
        if self._pending:
            self._replace(self._prune(self._compact()))

    def finish(self) -> Counted:
        """Return what was counted so far."""
        table = self._prune(self._compact()) if self._pending else _EMPTY
        self._replace(table)
        table = table.sort_by([("count", "descending"), ("value", "ascending")]).combine_chunks()
        values = pa.concat_arrays(table["value"].chunks) if table.num_rows else pa.array([], pa.string())
        return Counted(values=values, counts=table["count"].to_numpy(), error=self._error)

    def _push(self, table: pa.Table) -> None:
        self._pending.append(table)
        self._size += table.num_rows
        self._bytes += table.nbytes

    def _replace(self, table: pa.Table) -> None:
        self._pending, self._size, self._bytes = [], 0, 0
        self._push(table)

    def _compact(self) -> pa.Table:
        # threads would return the groups in any order
        grouped = pa.concat_tables(self._pending).group_by("value", use_threads=False).aggregate([("count", "sum")])
        return grouped.rename_columns({"count_sum": "count"}).select(["value", "count"])

    def _prune(self, table: pa.Table) -> pa.Table:
        fitting = table.num_rows
        if table.nbytes > self._max_bytes:
            fitting = int(table.num_rows * self._max_bytes / table.nbytes)
        keep = min(self._capacity, fitting)
        if table.num_rows <= keep:
            return table
        counts = table["count"].to_numpy()
        position = table.num_rows - keep - 1
        cut = int(np.partition(counts, position)[position])
        self._error += cut
        kept = table.filter(pa.array(counts > cut))
        # taken from those that stay as well: each cut then uses up its size times (keep + 1) rows, which bounds the
        # error
        lower = pa.array(kept["count"].to_numpy() - cut)
        return kept.set_column(1, "count", lower).combine_chunks()


def value_counts(text: pa.Array) -> pa.Table:
    """Return the distinct values of a string array, without null, and their counts."""
    counted = text.drop_null().value_counts()
    return pa.table({"value": counted.field("values"), "count": counted.field("counts")})


_EMPTY: Final = pa.table({"value": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
