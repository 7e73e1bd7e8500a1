"""What the columns of a table hold: share of missing values, distinct values, examples, and how text could be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tabstep.tables.column_types import is_text, to_text, value_type
from tabstep.tables.parse_text import amounts, is_certain, proposed_format
from tabstep.tables.typed_table import TypedTable

_DISTINCT: Final = (1_000, 100_000)
_ALL_DISTINCT: Final = 5_000_000  # over all columns
_BYTES: Final = 2**25  # of the distinct values of one column
_EXAMPLES: Final = 3
_EXAMPLE_LENGTH: Final = 19
_FEW_WORDS: Final = 2
_MANY_NUMBERS: Final = 20
_FEWEST: Final = 20  # rows in which a column whose values all differ is an id


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """What one column holds.

    ``distinct`` counts the values up to a limit, and ``more`` says that there are others. ``unique``: none stands twice
    up to there. ``form`` is the format that all of its texts have, if there is one.
    """

    missing: float
    distinct: int
    more: bool
    unique: bool
    examples: tuple[str, ...]
    form: str | None


def describe(source: TypedTable, columns: Sequence[str]) -> Mapping[str, ColumnFacts]:
    r"""Read ``columns`` once, in bounded memory, and return what each of them holds.

    >>> from tabstep.tables.csv import CsvTable
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("price;job\n$1,200;nurse\n;cook\n$3;nurse\n")
    >>> facts = describe(CsvTable(str(path), where="a.csv"), ["price", "job"])
    >>> facts["price"]
    ColumnFacts(missing=0.3333, distinct=2, more=False, unique=False, examples=('$1,200', '$3'), form='number')
    """
    low, high = _DISTINCT
    limit = max(low, min(high, _ALL_DISTINCT // max(1, len(columns))))
    seen = {name: _Seen(limit) for name in columns}
    for batch in source.batches(columns):
        for name, column in zip(columns, batch.columns, strict=True):
            seen[name].add(to_text(column))
    texts = {name: is_text(value_type(source.arrow_schema.field(name).type)) for name in columns}
    return {name: part.facts(text=texts[name]) for name, part in seen.items()}


@dataclass(frozen=True, kw_only=True)
class WrittenFormat:
    """The format that the texts of a column have, how many of them there are and how many differ.

    ``words`` are the few texts that do not have it; mostly there is none. ``certain``: no other format could be meant.
    """

    form: str
    texts: int
    distinct: int
    words: tuple[str, ...] = ()
    certain: bool = False


def written_formats(source: TypedTable, columns: Sequence[str], rows: int = 20_000) -> dict[str, WrittenFormat]:
    """Return the format of each column whose texts have one, as far as the first ``rows`` rows tell.

    All of them, or all but a word or two that stand among many numbers, as in "keine Angabe".
    """
    columns = [name for name in columns if is_text(value_type(source.arrow_schema.field(name).type))]
    first = next(iter(source.batches(columns, rows)), None) if columns else None
    if first is None:
        return {}
    texts = {name: to_text(first.column(name)).drop_null() for name in columns}
    found = {name: _written(text) for name, text in texts.items()}
    return {name: written for name, written in found.items() if written is not None}


def _written(texts: pa.Array) -> WrittenFormat | None:
    distinct = texts.unique()
    numbers = amounts(distinct)
    words = distinct.filter(pc.invert(numbers)).to_pylist()
    # of fewer that differ, each may be a name
    if 0 < len(words) <= _FEW_WORDS and numbers.true_count >= _MANY_NUMBERS:
        return WrittenFormat(form="number", texts=len(texts), distinct=len(distinct), words=tuple(words))
    form = proposed_format(distinct)
    if form is None:
        return None
    return WrittenFormat(form=form, texts=len(texts), distinct=len(distinct), certain=is_certain(distinct, form))


class _Seen:
    """The distinct values of one column so far, in the order of appearance."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values = pa.array([], pa.string())
        self._rows = self._present = 0
        self._more = False
        self._unique = True

    def add(self, text: pa.Array) -> None:
        present = text.drop_null()
        self._rows += len(text)
        self._present += len(present)
        if self._more:
            return
        values = pc.unique(pa.concat_arrays([self._values, present]))
        self._unique = len(values) == self._present
        self._more = len(values) > self._limit or values.nbytes > _BYTES
        self._values = values[: self._limit]

    def facts(self, *, text: bool) -> ColumnFacts:
        return ColumnFacts(
            missing=round(1 - self._present / max(1, self._rows), 4),
            distinct=len(self._values),
            more=self._more,
            unique=self._unique and self._present >= _FEWEST,
            examples=tuple(_shortened(value) for value in self._values[:_EXAMPLES].to_pylist()),
            form=proposed_format(self._values) if text else None,
        )


def _shortened(value: str) -> str:
    return value if len(value) <= _EXAMPLE_LENGTH else f"{value[: _EXAMPLE_LENGTH - 1]}…"
