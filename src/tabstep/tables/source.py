"""One split as a stream of Arrow record batches with one schema, from any number of parquet files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tabstep.errors import ProblemsError, UserError, nearest
from tabstep.schema import SPLITS
from tabstep.system.exits import of_the_storage
from tabstep.tables.arrow_stream import check_text, conformed, has_small_codes, joined, masked
from tabstep.tables.column_types import is_text, value_type, without_views
from tabstep.tables.file_digests import Contents
from tabstep.tables.footers import Footer, partition_of, read_footers, unified_schema
from tabstep.tables.locations import Location, find_files, read_error
from tabstep.tables.parse_text import AS_TEXT, parsed_type
from tabstep.tables.record_batch import bounded_rows

_BUFFER_BYTES: Final = (2**14, 2**20)  # of one column's reader; all readers together stay below _ALL_BUFFERS
_ALL_BUFFERS: Final = 2**26
_FULL_ROWS: Final = 2**16
_READ_AHEAD: Final = 4
"""Batches that are read at once where they have less than ``_FULL_ROWS`` rows."""


Watch = Callable[[str, int, int], None]
Fields = tuple[pa.Schema, dict[str, str]]
"""The columns of a table, and why others are not among them."""


@dataclass(frozen=True, kw_only=True)
class TablePart:
    """What a source of some rows of a table has of the whole: its columns, and the number of its own first row."""

    fields: Fields
    first_row: int = 0


class ParquetSource:
    """The rows of one split, in the order of the sorted file names and then of each file.

    ``arrow_schema`` has the columns that every file can give with one type; ``conflicts`` says of the others why not.

    >>> import tempfile, pyarrow.parquet as pq
    >>> directory = tempfile.mkdtemp()
    >>> pq.write_table(pa.table({"age": [1, 2, 3], "job": ["a", "b", None]}), directory + "/part.parquet")
    >>> source = open_source(directory, split="train")
    >>> source.num_rows, [batch.to_pydict() for batch in source.batches(["job"])]
    (3, [{'job': ['a', 'b', None]}])
    """

    def __init__(
        self,
        location: Location,
        footers: Sequence[Footer],
        contents: Contents,
        *,
        split: str,
        mask: np.ndarray | None = None,
        parse: Mapping[str, str] | None = None,
        watch: Watch | None = None,
        part: TablePart | None = None,
    ) -> None:
        self.split = split
        self.where = where_of(split)
        self.files = tuple(footer.path for footer in footers)
        self._part = part or TablePart(fields=unified_schema(footers))
        schema, self.conflicts = self._part.fields
        self.first_row = self._part.first_row
        """The number of the first row in the table that this is a shard of."""
        self._parse = dict(parse or {})
        self.given_schema = schema
        """The types that the files have; ``arrow_schema`` has those that are read."""
        self.arrow_schema = pa.schema([self._field_as_read(field) for field in schema])
        self._location = location
        self._footers = tuple(footers)
        self._contents = contents
        self._mask = mask
        self._watch = watch
        self.num_rows = int(sum(footer.num_rows for footer in footers) if mask is None else np.count_nonzero(mask))

    @property
    def location(self) -> Location:
        """Where the files are."""
        return self._location

    @property
    def footers(self) -> tuple[Footer, ...]:
        """The files, with their columns and the rows of their row groups."""
        return self._footers

    def shard(self, footers: Sequence[Footer], contents: Contents, part: TablePart) -> ParquetSource:
        """Return a source of some row groups of these files, with the types that the files of all shards have."""
        return ParquetSource(
            self._location,
            footers,
            contents,
            split=self.split,
            parse=self._parse,
            watch=self._watch,
            part=part,
        )

    def typed(self, part: TablePart) -> ParquetSource:
        """Return a source of the same rows, with the columns that the files of other machines have too."""
        return self._changed(part=part)

    def begins_at(self, first_row: int) -> ParquetSource:
        """Return a source of the same rows, whose first one has this number."""
        return self._changed(part=replace(self._part, first_row=first_row))

    @property
    def ignored_partitions(self) -> tuple[str, ...]:
        """The keys of ``key=value`` directories that are not read as columns."""
        if any(footer.partition for footer in self._footers):
            return ()
        return tuple(dict.fromkeys(key for footer in self._footers for key, _ in partition_of(footer.name)))

    @property
    def whole(self) -> bool:
        """Whether the source has every row of its files."""
        return self._mask is None

    def subset(self, mask: np.ndarray, split: str) -> ParquetSource:
        """Return a source of the rows where ``mask``, ``(num_rows,)`` bool, is true."""
        # of a subset, it is a mask of the rows that are left: spread out to those of the files
        if self._mask is not None:
            whole = np.zeros(len(self._mask), dtype=bool)
            whole[np.flatnonzero(self._mask)[mask]] = True
            mask = whole
        return self._changed(split=split, mask=mask)

    def joined(self, other: ParquetSource) -> ParquetSource:
        """Return a source of these rows and then the other's, with the columns that both have.

        Both must be whole and read with the same formats.

        Raises:
            UserError: they lie on different file systems, or are the same files.
        """
        mine, others = self._location, other._location
        if mine.filesystem != others.filesystem:
            raise UserError(f"{self.where}, {other.where}: lie on different file systems: join them in one place first")
        twice = set(self.files) & set(other.files)
        if twice:
            raise UserError(f"{self.where}, {other.where}: both have the file {min(twice)}: leave it in one of them")
        # no common directory: names begin with the split, since both may have a file of one name
        location = Location(filesystem=mine.filesystem, base="", paths=(*mine.paths, *others.paths))
        footers = [
            replace(footer, name=f"{source.split}/{footer.name}")
            for source in (self, other)
            for footer in source._footers
        ]
        contents = self._contents.joined(other._contents, location)
        return ParquetSource(location, footers, contents, split=self.split, parse=self._parse, watch=self._watch)

    def reading(self, parse: Mapping[str, str], *, exact: bool = True) -> ParquetSource:
        """Return a source that reads the text of some columns by a format, see ``parse_text``.

        Raises:
            UserError: there is no such format, or no such column, unless that need not be (``exact``).
        """
        names = [*self.arrow_schema.names, *self.conflicts]
        for name in parse:
            if exact and name not in names:
                raise UserError(f"schema.parse: {self.where} has no column {name!r}: {nearest(name, names)}")
        return self._changed(parse={name: form for name, form in parse.items() if form != AS_TEXT})

    def watched(self, watch: Watch) -> ParquetSource:
        """Return a source whose passes tell ``watch`` of each batch: ``where``, the rows so far, the rows in all."""
        return self._changed(watch=watch)

    def _changed(
        self,
        *,
        split: str | None = None,
        mask: np.ndarray | None = None,
        parse: Mapping[str, str] | None = None,
        watch: Watch | None = None,
        part: TablePart | None = None,
    ) -> ParquetSource:
        return ParquetSource(
            self._location,
            self._footers,
            self._contents,
            split=self.split if split is None else split,
            mask=self._mask if mask is None else mask,
            parse=self._parse if parse is None else parse,
            watch=self._watch if watch is None else watch,
            part=self._part if part is None else part,
        )

    def _field_as_read(self, field: pa.Field) -> pa.Field:
        if field.name not in self._parse or not is_text(value_type(field.type)):
            return field.with_type(without_views(field.type))
        try:
            return field.with_type(parsed_type(self._parse[field.name]))
        except UserError as error:
            raise UserError(f"schema.parse: column {field.name!r}: {error}") from None

    def fingerprint(self) -> str:
        """Return a digest of what the files hold and of the subset, equal for a copy elsewhere or at another time.

        Raises:
            UserError: a file has changed since it was opened.
            RetryError: the storage failed.
        """
        digest = hashlib.blake2b(digest_size=16)
        for footer, content in zip(self._footers, self._contents.digests, strict=True):
            digest.update(repr((footer.name, content)).encode())
        if self._mask is not None:
            # which rows, not how they came to be chosen: two draws with the same rows are one table
            digest.update(np.packbits(self._mask).tobytes())
        if self._parse:
            digest.update(repr(sorted(self._parse.items())).encode())
        return digest.hexdigest()

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise one line for each column that the table lacks, with the nearest name."""
        names = set(self.arrow_schema.names)
        problems = [
            f"{self.where}: column {name!r} "
            + self.conflicts.get(name, f"is missing: {nearest(name, self.arrow_schema.names)}")
            for name in columns
            if name not in names
        ]
        if problems:
            raise ProblemsError(problems)

    def batches(self, columns: Sequence[str], rows: int = _FULL_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield at most ``rows`` rows at a time (fewer for very wide tables) with ``columns`` in this order.

        Every batch has the types of ``arrow_schema``. Memory is bounded by a batch, not by a file.

        Raises:
            ProblemsError: a column is missing, or some files lack it or have it with a type of another meaning.
            UserError: a file is damaged; it names the file, the row group and the column.
        """
        self.check_columns(columns)
        schema = pa.schema([self.arrow_schema.field(name) for name in columns])
        rows = bounded_rows(rows, len(columns))
        batches = self._all_batches(schema, rows)
        # files have dictionaries of their own, and all of them together may be more than such codes can count
        done = 0
        for batch in batches if any(map(has_small_codes, schema.types)) else joined(batches, rows):
            done += batch.num_rows
            if self._watch is not None:
                self._watch(self.where, done, self.num_rows)
            yield batch

    def _all_batches(self, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        start = 0
        for footer in self._footers:
            stop = start + footer.num_rows
            mask = None if self._mask is None else self._mask[start:stop]
            if footer.num_rows and (mask is None or mask.any()):
                yield from masked(self._file_batches(footer, schema, rows), mask)
            start = stop

    def _file_batches(self, footer: Footer, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        low, high = _BUFFER_BYTES
        in_file = set(footer.schema.names)
        stored = [name for name in schema.names if name in in_file]
        done = 0
        groups = range(footer.first_group, footer.first_group + len(footer.row_groups))
        try:
            with self._location.filesystem.open_input_file(footer.path) as file:
                parquet = pq.ParquetFile(
                    file,
                    pre_buffer=False,  # reading ahead a row group took 774 MB where this takes 132
                    buffer_size=min(high, max(low, _ALL_BUFFERS // max(1, len(schema)))),
                    page_checksum_verification=True,
                )
                # a wide table has few rows a batch, and thousands of readers that each take a while to start
                ahead = min(_READ_AHEAD * rows, max(rows, _FULL_ROWS))
                for batch in parquet.iter_batches(batch_size=ahead, row_groups=groups, columns=stored):
                    read = conformed(batch, schema, dict(footer.partition), self._parse)
                    for start in range(0, read.num_rows, rows):
                        yield read.slice(start, rows)
                    done += batch.num_rows
            # at the end: it may have changed since the last batch
            self._contents.check_unchanged(footer.path)
        except (pa.ArrowException, OSError) as error:
            part = "" if of_the_storage(error) else self._damaged_part(footer, schema, done)
            raise read_error(self.where, footer.name, error, part) from error
        if done != footer.num_rows:
            raise UserError(f"{self.where}: {footer.name}: changed while it was read: run again when it is complete")

    def _damaged_part(self, footer: Footer, schema: pa.Schema, done: int) -> str:
        """Return which row group and column cannot be read, after ``done`` rows could."""
        # piece by piece, for Arrow says what was wrong and not where
        first = int(np.searchsorted(np.cumsum(footer.row_groups), done, side="right"))
        for group in range(first, len(footer.row_groups)):
            for name in schema.names:
                try:
                    with self._location.filesystem.open_input_file(footer.path) as file:
                        parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
                        table = parquet.read_row_group(footer.first_group + group, columns=[name])
                    for batch in table.to_batches():
                        check_text(batch)
                except (pa.ArrowException, OSError):
                    return f"row group {footer.first_group + group}, column {name!r} "
        return ""


def where_of(split: str) -> str:
    """Return how messages name a split: by its configuration key where it has one."""
    return f"data.{split}" if split in SPLITS else split


def open_source(
    location: str, *, split: str, partitioning: Literal["none", "hive"] = "none", memory: Path | None = None
) -> ParquetSource:
    """Open a parquet file, a directory of them, a glob or an ``s3://`` address as one split.

    Every footer is read, so that what differs between files shows here and not in mid-run. ``memory`` is a directory
    that keeps the digests of the files for the next start.

    Raises:
        UserError: nothing there, no rows, or files that are damaged or do not fit together.
        RetryError: the storage failed.
    """
    where = where_of(split)
    found = find_files(location, where=where)
    footers = read_footers(found, where=where, hive=partitioning == "hive")
    contents = Contents(found, {footer.path: footer.state for footer in footers}, where=where, memory=memory)
    source = ParquetSource(found, footers, contents, split=split)
    if not source.num_rows:
        raise UserError(f"{where}: {location} holds no rows ({len(footers)} file(s)): give it at least one")
    return source
