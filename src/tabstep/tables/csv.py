"""CSV as typed rows, read in blocks of bounded memory: once for the types, then for the values.

Training converts a file to parquet in the cache, once; everything below reads that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from tabstep.errors import ProblemsError, UserError, nearest
from tabstep.tables.column_types import ValueKind, value_kind
from tabstep.tables.locations import CSV_SUFFIXES, find_files, first_line
from tabstep.tables.missing_words import EMPTY_CELLS, without_words

_DELIMITERS: Final = ",;\t|"
_BLOCK: Final = 2**20
_TYPES: Final[dict[ValueKind, tuple[pa.DataType, ...]]] = {
    "number": (pa.int64(), pa.float64()),
    "boolean": (pa.bool_(),),
    "date": (pa.date32(),),
    "time": (pa.time64("us"),),
    "timestamp": (pa.timestamp("s"), pa.timestamp("us")),
    "zoned timestamp": (pa.timestamp("us", tz="UTC"),),
    "text": (pa.string(),),
}
_TEXT: Final = _TYPES["text"]
_ALL_TYPES: Final = tuple(dtype for types in _TYPES.values() for dtype in types)
_SECONDS: Final = (pa.duration("us"),)  # which nothing tells from numbers: a duration where train had one
_DAY: Final = pa.scalar("1970-01-01")
_CODE: Final = r"^\s*[+-]?0[0-9]"  # 007 is a name and no number


class CsvTable:
    r"""The rows of CSV files: one, those of a directory, or those of a glob. The delimiter is the header's.

    A column has the first of these types that all of its values have: whole number, number, boolean, date, time,
    timestamp, text. A number with a zero before it, as in 01067, is text. Unquoted empty cells and NA, N/A, NaN, nan,
    null, NULL and None are missing, and so are blank cells of a column that is not text. Among numbers and times, words
    such as ``?``, ``n.a.`` and ``unknown`` (`missing_words`) are missing too.

    Args:
        location: Names end in .csv, .tsv or .txt, perhaps with .gz or .zst behind.
        where: Begins every message.
        kinds: What the values of some columns have to be; other types are then no choice.

    Raises:
        UserError: a file cannot be read or has no rows, files differ in their columns, or a value is not of its kind.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("age;job\n31;nurse\n;NA\n")
    >>> [batch.to_pydict() for batch in CsvTable(str(path), where="data.train").batches(["job", "age"])]
    [{'job': ['nurse', None], 'age': [31, None]}]
    """

    def __init__(self, location: str, *, where: str, kinds: Mapping[str, ValueKind] | None = None) -> None:
        self.where = where
        self.conflicts: dict[str, str] = {}
        self._location = find_files(location, where=where, suffixes=CSV_SUFFIXES)
        self.files = self._location.paths
        self._names = self._header()
        known = _TYPES | {"duration": _SECONDS}
        types = {name: known.get((kinds or {}).get(name, "nothing"), _ALL_TYPES) for name in self._names}
        self.num_rows, self.arrow_schema = self._infer(types)
        if not self.num_rows:
            raise UserError(f"{where}: holds no rows: give it at least one")

    def batches(self, columns: Sequence[str], rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield at most ``rows`` rows at a time with ``columns`` in this order."""
        missing = [name for name in columns if name not in self._names]
        if missing:
            raise ProblemsError(
                [f"{self.where}: column {name!r} is missing: {nearest(name, self._names)}" for name in missing]
            )
        schema = pa.schema([self.arrow_schema.field(name) for name in columns])
        for text in self._text():
            arrays = [_typed(text.column(field.name), field.type) for field in schema]
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))

    def _header(self) -> list[str]:
        """Return the names of the columns, the same in every file."""
        names: list[str] = []
        for path in self.files:
            found = self._open(path, None).schema.names
            repeated = [name for name, count in Counter(found).items() if count > 1]
            if repeated:
                raise UserError(f"{self.where}: column {repeated[0]!r} stands more than once: rename or drop one")
            names = names or found
            if set(found) != set(names):
                name = min(set(found) ^ set(names))
                raise UserError(
                    f"{self.where}: column {name!r} is not in both {self._location.name(self.files[0])} and "
                    f"{self._location.name(path)}: give every file the same columns"
                )
        return names

    def _infer(self, types: dict[str, tuple[pa.DataType, ...]]) -> tuple[int, pa.Schema]:
        """Return the number of rows, and the first of ``types`` that all values of each column have."""
        rows, seen, words = 0, set(), set()
        for batch in self._text():
            for name in self._names:
                column = batch.column(name)
                if name in seen and types[name] == _TEXT:
                    continue
                # a batch in which all values are missing says nothing of the type
                if without_words(column).null_count < len(column):
                    seen.add(name)
                    types[name] = self._left(name, column, types[name], rows)
                elif pc.any(pc.not_equal(pc.utf8_trim_whitespace(column), "")).as_py():
                    words.add(name)
            rows += batch.num_rows
        found = {name: types[name][0] for name in seen}
        found |= {name: pa.string() for name in words - seen if pa.string() in types[name]}
        return rows, pa.schema([(name, found.get(name, pa.null())) for name in self._names])

    def _left(self, name: str, column: pa.Array, types: tuple[pa.DataType, ...], row: int) -> tuple[pa.DataType, ...]:
        """Return the types that the values have too."""
        # where text is no choice, train had numbers, and 007 is one
        left = tuple(dtype for dtype in types if _has(column, dtype, forced=pa.string() not in types))
        if left:
            return left
        wanted = value_kind(types[0])
        bad = next(i for i in range(len(column)) if not _has(column.slice(i, 1), types[-1], forced=True))
        raise UserError(
            f"{self.where}: column {name!r}, row {row + bad}: a {wanted} is due as in train, "
            f"got {column[bad].as_py()!r}"
        )

    def _text(self) -> Iterator[pa.RecordBatch]:
        """Yield blocks of all files with every column as text."""
        for path in self.files:
            try:
                yield from self._open(path, dict.fromkeys(self._names, pa.string()))
            except (pa.ArrowException, OSError) as error:
                raise self._unreadable(path, error) from error

    def _open(self, path: str, types: Mapping[str, pa.DataType] | None) -> csv.CSVStreamingReader:
        options = csv.ConvertOptions(
            column_types=types, null_values=EMPTY_CELLS, strings_can_be_null=True, quoted_strings_can_be_null=False
        )
        filesystem = self._location.filesystem
        try:
            with filesystem.open_input_stream(path) as stream:  # unpacks by the name's ending
                # the delimiter has to be known before the file is opened as CSV
                header = stream.read(65_536).split(b"\n", 1)[0].decode("utf-8", errors="replace")
            return csv.open_csv(
                filesystem.open_input_stream(path),
                read_options=csv.ReadOptions(block_size=_BLOCK),
                # a quoted cell may go over several lines
                parse_options=csv.ParseOptions(delimiter=max(_DELIMITERS, key=header.count), newlines_in_values=True),
                convert_options=options,
            )
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: str, error: Exception) -> UserError:
        name = f"{self._location.name(path)}: " if len(self.files) > 1 else ""
        why = first_line(error)
        if "invalid UTF8" in why:
            why += ": is it Latin-1? save it as UTF-8, such as with `iconv -f latin1 -t utf-8`"
        return UserError(f"{self.where}: {name}cannot be read as CSV: {why}")


def _has(column: pa.Array, dtype: pa.DataType, *, forced: bool) -> bool:
    """Whether all values have a type; a code such as 007 is a number only where that is ``forced``."""
    if not forced and dtype in _TYPES["number"] and pc.any(pc.match_substring_regex(column, _CODE)).as_py():
        return False
    values = column.drop_null()
    try:
        for count in (1, 64, 4096, len(values)):  # Arrow words an error for each value that fails: 25 microseconds
            _typed(values.slice(0, count), dtype)
    except pa.ArrowInvalid:
        return False
    return True


def _typed(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    if pa.types.is_string(dtype):
        return column
    if pa.types.is_null(dtype):
        return pa.nulls(len(column))
    values = without_words(column)
    if pa.types.is_time(dtype):  # Arrow casts no text to a time of day
        return pc.binary_join_element_wise(_DAY, values, " ").cast(pa.timestamp("us")).cast(dtype)
    # a number with a fraction: Arrow casts whole numbers alone
    if pa.types.is_duration(dtype):
        return pc.round(pc.multiply(values.cast(pa.float64()), 1e6)).cast(pa.int64()).cast(dtype)
    return values.cast(dtype)
