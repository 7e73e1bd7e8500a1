"""One reading pass over a split for all that want to know something of it, on all cores.

A collector is asked for its part of each batch by several threads, and takes the parts in the order of the rows. So
what it ends with does not depend on how many threads there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Protocol

import pyarrow as pa

from tabstep.system.ordered_map import ordered_map
from tabstep.tables.source import ParquetSource


class Collector(Protocol):
    """Something that is gathered from the rows of a split, from its first ``rows_wanted``."""

    @property
    def rows_wanted(self) -> int: ...

    def part(self, batch: pa.RecordBatch, first_row: int) -> Any:
        """Return what ``merge`` takes of ``batch``, which begins at row ``first_row``; changes nothing."""

    def merge(self, part: Any) -> None:
        """Take the part of the next batch."""


def numbered(batches: Iterable[pa.RecordBatch], row: int = 0) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield each batch with the number of its first row; that of the first one is ``row``.

    >>> [row for _, row in numbered([pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": [3]})])]
    [0, 2]
    """
    for batch in batches:
        yield batch, row
        row += batch.num_rows


def scan(
    source: ParquetSource, columns: Sequence[str], collectors: Sequence[Collector], *, workers: int | None = None
) -> None:
    """Read ``columns`` of ``source`` once for all ``collectors``, as far as the one that wants most of it.

    Raises:
        UserError: a column is missing, a file is damaged, or a collector refuses what it reads.
    """
    wanted = max(collector.rows_wanted for collector in collectors)
    pieces = takewhile(lambda piece: piece[1] < wanted, numbered(source.batches(columns), source.first_row))
    for parts in ordered_map(
        lambda piece: [collector.part(*piece) for collector in collectors], pieces, workers=workers
    ):
        for collector, part in zip(collectors, parts, strict=True):
            collector.merge(part)
