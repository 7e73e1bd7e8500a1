"""Parquet footers: a file's columns, its rows, and what the file system says of the file."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from tabstep.errors import ProblemsError, RetryError, UserError
from tabstep.system.exits import of_the_machine, of_the_storage
from tabstep.tables.column_types import unify
from tabstep.tables.locations import FileState, Location, first_line

_MAGIC: Final = b"PAR1"
_ENCRYPTED: Final = b"PARE"
_TAIL: Final = struct.Struct("<I4s")  # length of the footer, then the magic
_NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, kw_only=True)
class Footer:
    """One file. The parsed metadata is let go: 10,000 of them would take 500 MB."""

    path: str
    name: str
    schema: pa.Schema
    row_groups: tuple[int, ...]  # rows of each
    state: FileState
    partition: tuple[tuple[str, str | None], ...] = ()
    first_group: int = 0  # of the file's row groups, where the others are left to another shard

    @property
    def num_rows(self) -> int:
        return sum(self.row_groups)


def read_footers(location: Location, *, where: str, hive: bool) -> list[Footer]:
    """Return the footer of every file, in the order of the paths.

    Raises:
        ProblemsError: files are empty, truncated, damaged or not parquet, one line each.
        RetryError: the storage failed.
    """
    schemas: dict[pa.Schema, pa.Schema] = {}  # thousands of files share a few objects

    def read(path: str) -> Footer | str:
        try:
            footer = _read_footer(location, path, hive=hive)
            return replace(footer, schema=schemas.setdefault(footer.schema, footer.schema))
        except UserError as error:
            return f"{where}: {location.name(path)}: {error}"
        except RetryError as error:
            raise RetryError(f"{where}: {location.name(path)}: {error}") from error

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(read, location.paths))
    problems = [item for item in found if isinstance(item, str)]
    if problems:
        raise ProblemsError(problems)
    return [item for item in found if isinstance(item, Footer)]


def _read_footer(location: Location, path: str, *, hive: bool) -> Footer:
    try:
        state = location.state(path)
        with location.filesystem.open_input_file(path) as file:
            _check_ends(file, state.size)
            parquet = pq.ParquetFile(file, pre_buffer=False)
            metadata, schema = parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        if of_the_machine(error):
            raise RetryError(f"cannot be read: {first_line(error)}: run again when the storage is back") from error
        if of_the_storage(error):
            raise UserError(f"cannot be read: {first_line(error)}: let this user read it") from error
        raise UserError(f"cannot be read as parquet: {first_line(error)}: write the file again") from error
    repeated = [name for name, count in Counter(schema.names).items() if count > 1]
    if repeated:
        raise UserError(f"column {repeated[0]!r} stands {schema.names.count(repeated[0])} times: rename or drop one")
    name = location.name(path)
    return Footer(
        path=path,
        name=name,
        # such as that of pandas, which differs between files of the same columns
        schema=schema.remove_metadata(),
        row_groups=tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)),
        state=state,
        partition=partition_of(name) if hive else (),
    )


def _check_ends(file: pa.NativeFile, size: int) -> None:
    """Raise ``UserError`` where a file does not begin and end as parquet does."""
    if size == 0:
        raise UserError("is an empty file (0 bytes): write it again or remove it")
    # the shortest file of all has the magic, the length of its footer, and the magic again
    if size >= 12 and file.read_at(4, 0) == _ENCRYPTED:
        raise UserError("is encrypted, and no key can be given: write it again without encryption")
    if size < 12 or file.read_at(4, 0) != _MAGIC:
        raise UserError(
            "is not a parquet file (it does not begin with PAR1): convert it, name what reads it (data.reader.name, "
            "--reader), or remove it"
        )
    length, magic = _TAIL.unpack(file.read_at(_TAIL.size, size - _TAIL.size))
    if magic != _MAGIC or length + 12 > size:
        raise UserError(f"is truncated (its {size} bytes do not end in a parquet footer): copy or write it again")


def partition_of(name: str) -> tuple[tuple[str, str | None], ...]:
    """Return the ``key=value`` directories of a path, unquoted.

    >>> partition_of("year=2024/city=a%20b/part-0.parquet")
    (('year', '2024'), ('city', 'a b'))
    """
    pairs = [part.split("=", 1) for part in name.split("/")[:-1] if "=" in part]
    return tuple((unquote(key), None if value == _NULL_PARTITION else unquote(value)) for key, value in pairs)


def partition_types(footers: Sequence[Footer]) -> dict[str, pa.DataType]:
    """Return int64 for a partition key whose values are all integers, string for the others."""
    values: dict[str, set[str]] = {}
    for footer in footers:
        for key, value in footer.partition:
            values.setdefault(key, set()).update(() if value is None else (value,))
    return {
        key: pa.int64() if seen and all(text.lstrip("-").isdecimal() for text in seen) else pa.string()
        for key, seen in values.items()
    }


def unified_schema(footers: Sequence[Footer]) -> tuple[pa.Schema, dict[str, str]]:
    """Return the schema that every file can be read as, and why a column that stands in some file is not in it.

    The columns stand in the first file's order. A column that some files lack, or whose types have no common meaning,
    is left to whoever asks for it: columns that nobody uses may differ.
    """
    partitions = partition_types(footers)
    files = _distinct_schemas(footers)
    types: dict[str, pa.DataType] = {}
    conflicts: dict[str, str] = {}
    for name in dict.fromkeys(name for fields in files.values() for name in fields):
        try:
            if name in partitions:
                raise UserError("is in the files and in the names of the directories: rename one")
            types[name] = _unified_type(name, files)
        except UserError as error:
            conflicts[name] = str(error)
    usable = types | {name: dtype for name, dtype in partitions.items() if name not in conflicts}
    return pa.schema(list(usable.items())), conflicts


def _distinct_schemas(footers: Sequence[Footer]) -> dict[str, dict[str, pa.DataType]]:
    """Return the types by column, by the name of the first file that has them in a row of equal ones."""
    files: dict[str, dict[str, pa.DataType]] = {}
    last: pa.Schema | None = None
    for footer in footers:
        if last is None or not footer.schema.equals(last):
            files[footer.name] = dict(zip(footer.schema.names, footer.schema.types, strict=True))
        last = footer.schema
    return files


def _unified_type(name: str, files: dict[str, dict[str, pa.DataType]]) -> pa.DataType:
    unified, origin = None, ""
    for file, fields in files.items():
        dtype = fields.get(name)
        if dtype is None:
            raise UserError(f"is missing in {file}, other files have it: add it to every file")
        both = dtype if unified is None else unify(unified, dtype)
        if both is None:
            raise UserError(f"is {unified} in {origin} and {dtype} in {file}: write both with one type")
        if both != unified:
            unified, origin = both, file
    return unified
