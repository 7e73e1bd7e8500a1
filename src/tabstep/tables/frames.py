"""Tables of other libraries as Arrow tables and back, by the Arrow PyCapsule interface: no row is touched in Python."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from tabstep.errors import UserError
from tabstep.system.cache import publish
from tabstep.tables.locations import first_line

_FILE: Final = "table.parquet"
_UNNAMED_INDEX: Final = re.compile(r"__index_level_\d+__")


def is_location(data: Any) -> bool:
    """Whether ``data`` names files, rather than being rows itself."""
    return isinstance(data, str | os.PathLike)


def to_table(data: Any, *, where: str) -> pa.Table:
    """Return rows of any library as an Arrow table: pandas, polars, pyarrow, DuckDB, or a dict of arrays by column.

    A pandas index counts as a column where it has a name, and is left out where it has none.

    Raises:
        UserError: it is no table, or a column has no single type. Messages begin with ``where``.

    >>> to_table({"age": [31, 42], "job": ["nurse", None]}, where="data").to_pydict()
    {'age': [31, 42], 'job': ['nurse', None]}
    """
    try:
        table = _as_table(data)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: cannot be read as a table: {first_line(error)}") from error
    if table is None:
        raise UserError(
            f"{where}: {type(data).__name__} is no table: give a DataFrame, an Arrow table, a dict of arrays by column "
            "or the path of files"
        )
    names = [name for name in table.column_names if not _UNNAMED_INDEX.fullmatch(name)]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(f"{where}: column {repeated[0]!r} stands {names.count(repeated[0])} times: rename or drop one")
    try:
        # what another library hands over may be invalid, and Arrow trusts it from here on
        table.validate(full=True)
    except pa.ArrowException as error:
        raise UserError(f"{where}: is damaged: {first_line(error)}: make it again") from error
    return _plain(table.select(names))


def _plain(table: pa.Table) -> pa.Table:
    """Return the table without metadata, its columns in layouts that Arrow computes on; polars hands out views."""
    return pa.table({name: _without_views(table.column(name)) for name in table.column_names})


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if types.is_run_end_encoded(column.type):  # parquet has no such type
        return _without_views(pc.run_end_decode(column))
    if types.is_string_view(column.type):
        return column.cast(pa.large_string())
    if not (types.is_dictionary(column.type) and types.is_string_view(column.type.value_type)):
        return column
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary.cast(pa.large_string()))
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.large_string()))


def _as_table(data: Any) -> pa.Table | None:
    if isinstance(data, Mapping):
        return pa.table({str(name): _column(values) for name, values in data.items()})
    if isinstance(data, pa.Table):
        return data
    if type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "columns"):
        named = any(name is not None for name in data.index.names)
        return pa.Table.from_pandas(data, preserve_index=named)  # its Arrow interface drops an index of equal steps
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    if hasattr(data, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(data)])
    return None


def _column(values: Any) -> Any:
    if hasattr(values, "__arrow_c_stream__"):
        return pa.chunked_array(values)
    return pa.array(values)


def like(table: pa.Table, given: Any) -> Any:
    """Return ``table`` as an object of the library that ``given`` is of; what has no such form is an Arrow table.

    Rows of pandas keep the index of ``given``; a dict of arrays gives a dict of numpy arrays.
    """
    library = type(given).__module__.partition(".")[0]
    if library == "pandas":
        frame = table.to_pandas()
        frame.index = given.index
        return frame
    if library == "polars":
        import polars

        return polars.from_arrow(table)
    if isinstance(given, Mapping):
        return {name: table.column(name).to_numpy() for name in table.column_names}
    return table


def keep_table(table: pa.Table, cache_dir: Path) -> Path:
    """Write a table as a parquet file with page checksums, named by its content; return where it is.

    The same rows have the same file, so that what was encoded of them is found again.

    Raises:
        UserError: ``cache_dir`` cannot be written.
        RetryError: the disk is full.
    """

    def build(directory: Path) -> None:
        pq.write_table(table, directory / _FILE, write_page_checksum=True)

    def load(directory: Path) -> Path:
        pq.read_metadata(directory / _FILE)
        return directory / _FILE

    return publish(cache_dir / f"rows-{_digest(table)}", build=build, load=load)


class _Hash(io.RawIOBase):
    """A file that keeps of what is written to it the digest alone."""

    def __init__(self) -> None:
        self.state = hashlib.blake2b(digest_size=16)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.state.update(data)
        return len(memoryview(data))


def _digest(table: pa.Table) -> str:
    sink = _Hash()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table.combine_chunks())  # the chunks are no content
    return sink.state.hexdigest()
