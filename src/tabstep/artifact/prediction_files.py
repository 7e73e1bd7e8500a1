"""Predictions streamed into a file: parquet or CSV, by the ending of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from tabstep.errors import UserError
from tabstep.tables.column_types import value_type, without_views
from tabstep.tables.locations import PARQUET_SUFFIXES, first_line

CSV_PACKINGS: Final[dict[str, str | None]] = {".csv": None, ".csv.gz": "gzip", ".csv.zst": "zstd"}


def prediction_writer(path: Path) -> Callable[[Path, Iterable[pa.RecordBatch]], int]:
    """Return what writes record batches in the form that the ending of ``path`` names.

    Raises:
        UserError: the ending names none.
    """
    name = path.name.lower()
    if name.endswith(PARQUET_SUFFIXES):
        return write_batches
    packing = next((packing for ending, packing in CSV_PACKINGS.items() if name.endswith(ending)), "")
    if packing == "":
        raise UserError(f"{path}: its ending names no form: write .parquet, or {', '.join(CSV_PACKINGS)}")
    return partial(write_csv, packing=packing)


def write_csv(path: Path, batches: Iterable[pa.RecordBatch], *, packing: str | None) -> int:
    """Write record batches of one schema as CSV, with a line of names, and return the number of rows."""
    rows = 0
    with ExitStack() as stack:
        file = stack.enter_context(pa.output_stream(path, compression=packing))
        writer: csv.CSVWriter | None = None
        for batch in batches:
            plain = pa.schema([(field.name, without_views(value_type(field.type))) for field in batch.schema])
            try:
                writer = writer or stack.enter_context(csv.CSVWriter(file, plain))
            except pa.ArrowException as error:
                raise UserError(f"table: cannot be written as CSV ({first_line(error)}): write .parquet") from error
            writer.write_batch(batch.cast(plain))
            rows += batch.num_rows
    return rows


def write_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write record batches of one schema with page checksums and return the number of rows."""
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, write_page_checksum=True)
            writer.write_batch(batch)
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows
