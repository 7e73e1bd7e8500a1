"""Some rows of a large table, evenly spread over it: what a report looks at when looking at all would take too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tabstep.encoding.encoder import Encoder
from tabstep.tables.record_batch import bounded_rows
from tabstep.tables.source import ParquetSource


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Raw rows and their classes: ``y`` as ``Encoder.encode_labels`` gives it. ``total`` is what they stand for."""

    rows: pa.RecordBatch
    y: NDArray[Any]
    total: int

    def some(self, limit: int) -> Labelled:
        """Return at most ``limit`` of the rows, evenly spread."""
        places = sample_places(self.rows.num_rows, limit)
        return Labelled(rows=self.rows.take(pa.array(places)), y=self.y[places], total=self.total)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Stored predictions: ``probs`` ``(n, classes)``, ``y`` as ``Encoder.encode_labels`` gives it."""

    probs: NDArray[np.float32]
    y: NDArray[Any]
    total: int


def labelled_rows(source: ParquetSource, encoder: Encoder, limit: int) -> Labelled:
    """Return at most ``limit`` raw rows with all columns that the schema names, in the order of the table."""
    schema = encoder.schema
    batch = sample_batches(source.batches(schema.columns), source.num_rows, limit_cells(limit, len(schema.features)))
    return Labelled(rows=batch, y=encoder.encode_labels(batch, where=source.where), total=source.num_rows)


def row_count(count: int, total: int) -> str:
    """Say how many rows were looked at, and of how many.

    >>> row_count(1, 1), row_count(500, 500), row_count(500, 9000)
    ('1 row', '500 rows', 'a sample of 500 of 9,000 rows')
    """
    if count == total == 1:
        return "1 row"
    return f"{count:,} rows" if count == total else f"a sample of {count:,} of {total:,} rows"


def limit_cells(rows: int, columns: int) -> int:
    """Return how many of ``rows`` rows to look at: fewer of a very wide table."""
    return bounded_rows(rows, columns)


def read_predictions(path: Path, encoder: Encoder, limit: int) -> Predicted:
    """Return at most ``limit`` of the predictions that a run has stored.

    Raises:
        ValueError: the file is not what a run with this encoder writes.
    """
    kept = len(encoder.schema.columns) - len(encoder.schema.features)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        total = file.metadata.num_rows
        names = file.schema_arrow.names[: kept + encoder.num_classes]
        batch = sample_batches(file.iter_batches(columns=names), total, limit)
    columns = [batch.column(place) for place in range(kept, batch.num_columns)]
    if len(columns) < encoder.num_classes or any(column.type != pa.float32() for column in columns):
        raise ValueError(f"{path}: does not hold the predictions of this model")
    probs = np.stack([column.to_numpy() for column in columns], axis=1)
    return Predicted(probs=probs, y=encoder.encode_labels(batch.select(range(kept)), where=str(path)), total=total)


def sample_batches(batches: Iterator[pa.RecordBatch], total: int, limit: int) -> pa.RecordBatch:
    """Return ``limit`` of ``total`` rows that stream by, at equal distances, as one batch.

    >>> rows = pa.table({"x": list(range(10))}).to_batches(max_chunksize=4)
    >>> sample_batches(iter(rows), 10, 4).to_pydict()
    {'x': [1, 3, 6, 8]}
    """
    chosen = sample_places(total, limit)
    parts, start = [], 0
    for batch in batches:
        low, high = np.searchsorted(chosen, [start, start + batch.num_rows])
        parts.append(batch if high - low == batch.num_rows else batch.take(pa.array(chosen[low:high] - start)))
        start += batch.num_rows
    return one_batch(parts)


def sample_places(total: int, limit: int) -> NDArray[np.int64]:
    """Return at most ``limit`` places of ``total``, at equal distances."""
    if total <= limit:
        return np.arange(total)
    return ((np.arange(limit) + 0.5) * total / limit).astype(np.int64)


def one_batch(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Join record batches of one schema."""
    # a batch has one dictionary a column, and those of the parts may differ
    return pa.Table.from_batches(parts).unify_dictionaries().combine_chunks().to_batches()[0]
