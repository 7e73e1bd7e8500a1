"""Delta and Iceberg tables, read by their own libraries: their directories also hold the files of deleted rows."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import pyarrow as pa
from pyarrow import fs

from tabstep.errors import ProblemsError, UserError, nearest
from tabstep.tables.locations import first_line, is_directory, open_filesystem

Lake = Literal["delta", "iceberg"]
_METADATA: Final = ".metadata.json"
_MODULES: Final[dict[Lake, str]] = {"delta": "deltalake", "iceberg": "pyiceberg.table"}


def lake_of(location: str, *, where: str) -> Lake | None:
    """Return of what kind a table is that is more than its files, None for plain files.

    A Delta table is named by its directory, an Iceberg table by its directory or one of its ``.metadata.json`` files.
    """
    if location.endswith(_METADATA):
        return "iceberg"
    base = location.rstrip("/")
    if is_directory(f"{base}/_delta_log", where=where):
        return "delta"
    return "iceberg" if is_directory(f"{base}/metadata", where=where) and _newest_metadata(location) else None


class LakeTable:
    """The rows of a Delta or Iceberg table as of its newest version, streamed; ``version`` tells it from all others.

    Raises:
        UserError: the library is not installed, or the table cannot be read.
    """

    files: tuple[str, ...] = ()

    def __init__(self, location: str, lake: Lake, *, where: str) -> None:
        self.where = where
        self.conflicts: dict[str, str] = {}
        self._lake = lake
        module = _library(lake)
        try:
            if lake == "delta":
                self._table = module.DeltaTable(location)
                self.version = f"{self._table.metadata().id}-{self._table.version()}"
                self._rows = self._table.to_pyarrow_dataset()
                schema, self.num_rows = self._rows.schema, self._rows.count_rows()
            else:
                metadata = location if location.endswith(_METADATA) else _newest_metadata(location)
                self._table = module.StaticTable.from_metadata(metadata)
                snapshot = self._table.current_snapshot()
                self.version = f"{self._table.metadata.table_uuid}-{snapshot.snapshot_id if snapshot else 0}"
                schema, self.num_rows = self._table.schema().as_arrow(), self._table.scan().count()
        # errors of the library's own, which is imported only where there is such a table
        except Exception as error:
            raise self._unreadable(error) from error
        self.arrow_schema = pa.schema([(field.name, field.type) for field in schema])
        if not self.num_rows:
            raise UserError(f"{where}: {location} holds no rows: give it at least one")

    def batches(self, columns: Sequence[str], rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield at most ``rows`` rows at a time with ``columns`` in this order."""
        known = self.arrow_schema.names
        missing = [name for name in columns if name not in known]
        if missing:
            raise ProblemsError(
                [f"{self.where}: column {name!r} is missing: {nearest(name, known)}" for name in missing]
            )
        schema = pa.schema([self.arrow_schema.field(name) for name in columns])
        try:
            for batch in self._batches(columns, rows):
                plain = batch.select(list(columns)).cast(schema)
                yield from (plain.slice(start, rows) for start in range(0, plain.num_rows, rows))
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _batches(self, columns: Sequence[str], rows: int) -> Any:
        if self._lake == "delta":
            return self._rows.to_batches(columns=list(columns), batch_size=rows)
        return self._table.scan(selected_fields=tuple(columns)).to_arrow_batch_reader()

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self.where}: cannot be read as {self._lake.title()} table: {first_line(error)}")


def _library(lake: Lake) -> Any:
    try:
        return importlib.import_module(_MODULES[lake])
    except ModuleNotFoundError as error:
        raise UserError(f"a {lake.title()} table needs {error.name}: pip install 'tabstep[{lake}]'") from error


def _newest_metadata(location: str) -> str:
    """Return the newest description of an Iceberg table below a directory, an empty text where there is none."""
    filesystem, path = open_filesystem(location)
    selector = fs.FileSelector(f"{path.rstrip('/')}/metadata", allow_not_found=True)
    names = [info.base_name for info in filesystem.get_file_info(selector) if info.base_name.endswith(_METADATA)]
    if not names:
        return ""
    # by number and not by text: version 10 comes after version 9
    newest = max(names, key=lambda name: (int(number[0]) if (number := re.search(r"\d+", name)) else -1, name))
    return f"{location.rstrip('/')}/metadata/{newest}"
