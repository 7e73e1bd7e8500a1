"""Parquet whose row groups are filled up, however small the batches are that it is written from."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

_BYTES: Final = 2**26
_ROWS: Final = 2**17


class RowGroupWriter:
    """One parquet file with page checksums; what it holds back is written when it is closed."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True)
        self._batches: list[pa.RecordBatch] = []
        self._schema = schema

    def __enter__(self) -> RowGroupWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Complete the file, or give up on it."""
        if kind is None:
            self.close()
        else:
            self._writer.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the rows of a batch."""
        self._batches.append(batch)
        rows = sum(held.num_rows for held in self._batches)
        if rows >= _ROWS or sum(held.nbytes for held in self._batches) >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, schema=self._schema))
            self._batches = []

    def close(self) -> None:
        """Write what is left, and the footer."""
        self._flush()
        self._writer.close()
