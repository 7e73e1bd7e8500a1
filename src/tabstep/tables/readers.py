"""The door through which every table comes: parquet as it is, and what else there is converted once, in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from tabstep.system.cache import publish
from tabstep.tables.column_types import ValueKind
from tabstep.tables.csv import CsvTable
from tabstep.tables.file_digests import Contents
from tabstep.tables.lakes import LakeTable, lake_of
from tabstep.tables.locations import CSV_SUFFIXES, find_files, is_csv
from tabstep.tables.row_groups import RowGroupWriter
from tabstep.tables.source import ParquetSource, open_source
from tabstep.tables.typed_table import TypedTable

# to be raised where rows are read otherwise: the cache holds tables of earlier versions
_VERSION: Final = 2
Kinds = Mapping[str, ValueKind]
Rows = ParquetSource | CsvTable | LakeTable


def open_rows(location: str, *, where: str, kinds: Kinds | None = None) -> Rows:
    """Open a table to be streamed as it is: parquet, CSV, or a table of Delta or Iceberg.

    ``kinds`` says what the values of columns have to be where a form has no types of its own.
    """
    lake = lake_of(location, where=where)
    if lake is not None:
        return LakeTable(location, lake, where=where)
    if is_csv(location, where=where):
        return CsvTable(location, where=where, kinds=kinds)
    return open_source(location, split=where)


def as_parquet(location: str, *, where: str, cache_dir: Path, kinds: Kinds | None = None) -> str:
    """Return the location of parquet with the rows of a table: what is none is converted, where that is not done yet.

    It is done again for CSV files of other bytes, and for a new version of a table that has versions.

    Raises:
        UserError: the table cannot be read, or ``cache_dir`` cannot be written.
        RetryError: the disk is full.
    """
    lake = lake_of(location, where=where)
    if lake is not None:
        table = LakeTable(location, lake, where=where)
        return _converted(cache_dir, [lake, table.version], Path(location.rstrip("/")).name, lambda: table)
    if not is_csv(location, where=where):
        return location
    found = find_files(location, where=where, suffixes=CSV_SUFFIXES)
    states = {path: found.state(path) for path in found.paths}
    contents = Contents(found, states, where=where, memory=cache_dir)
    # the kinds too, by which cells become other values
    facts = [[*map(found.name, found.paths)], contents.digests, sorted((kinds or {}).items())]
    name = Path(found.paths[0]).name.partition(".")[0]
    return _converted(cache_dir, facts, name, lambda: CsvTable(location, where=where, kinds=kinds))


def _converted(cache_dir: Path, facts: Any, name: str, open_table: Callable[[], TypedTable]) -> str:
    key = hashlib.sha256(json.dumps([_VERSION, facts]).encode()).hexdigest()[:16]

    def build(directory: Path) -> None:
        table = open_table()
        with RowGroupWriter(directory / f"{name}.parquet", table.arrow_schema) as writer:
            for batch in table.batches(table.arrow_schema.names):
                writer.add(batch)

    def load(directory: Path) -> str:
        pq.read_metadata(directory / f"{name}.parquet")
        return str(directory / f"{name}.parquet")

    return publish(cache_dir / f"table-{key}", build=build, load=load)
