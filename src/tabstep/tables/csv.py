"""CSV as a table to propose a schema from or to split; training reads parquet alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa
from pyarrow import csv

from tabstep.errors import ProblemsError, UserError, nearest
from tabstep.tables.locations import first_line, open_filesystem

CSV_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
_DELIMITERS: Final = ",;\t|"
_NULLS: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


class CsvTable:
    r"""A CSV file, read whole: a column's type follows from all of its rows. The delimiter is the header's.

    Unquoted empty cells and NA, N/A, NaN, nan, null, NULL and None are missing.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("age;job\n31;nurse\n;NA\n")
    >>> [batch.to_pydict() for batch in CsvTable(str(path), where="data.train").batches(["job", "age"])]
    [{'job': ['nurse', None], 'age': [31, None]}]
    """

    def __init__(self, location: str, *, where: str) -> None:
        self.where = where
        self._table = _read(location, where)
        self.arrow_schema = self._table.schema
        self.num_rows = self._table.num_rows
        self.conflicts: dict[str, str] = {}
        repeated = [name for name, count in Counter(self._table.column_names).items() if count > 1]
        if repeated:
            raise UserError(f"{where}: column {repeated[0]!r} stands more than once: rename or drop one")
        if not self.num_rows:
            raise UserError(f"{where}: holds no rows: give it at least one")

    def batches(self, columns: Sequence[str], rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """Yield at most ``rows`` rows at a time with ``columns`` in this order."""
        known = self._table.column_names
        missing = [name for name in columns if name not in known]
        if missing:
            raise ProblemsError(
                [f"{self.where}: column {name!r} is missing: {nearest(name, known)}" for name in missing]
            )
        yield from self._table.select(list(columns)).combine_chunks().to_batches(max_chunksize=rows)


def _read(location: str, where: str) -> pa.Table:
    filesystem, path = open_filesystem(location)
    options = csv.ConvertOptions(null_values=_NULLS, strings_can_be_null=True, quoted_strings_can_be_null=False)
    try:
        with filesystem.open_input_stream(path) as stream:
            header = stream.read(65_536).split(b"\n", 1)[0].decode("utf-8", errors="replace")
        delimiter = max(_DELIMITERS, key=header.count)
        with filesystem.open_input_stream(path) as stream:
            return csv.read_csv(stream, parse_options=csv.ParseOptions(delimiter=delimiter), convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{where}: cannot be read as CSV: {first_line(error)}") from error
