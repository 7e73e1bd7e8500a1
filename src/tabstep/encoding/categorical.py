"""The codes of categories: which values of a column have one of their own, and those of a column of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tabstep.encoding.sketch import Counted, ValueCounts, value_counts
from tabstep.errors import UserError
from tabstep.tables.column_types import ValueKind, value_kind
from tabstep.tables.record_batch import get_column, texts

MISSING: Final = 0
UNSEEN: Final = 1
RARE: Final = 2
NUM_SPECIAL: Final = 3

# values of a column that are counted at a time
_CAPACITY: Final = 200_000
_ALL_CAPACITY: Final = 4_000_000  # over all columns
_ALL_BYTES: Final = 512 * 2**20
# values of a column that encoder.json holds, and below of all columns
_REMEMBERED: Final = 50_000
_FEW: Final = 64
"""Rows for which Arrow's table of all known values, made anew at each call, is not worth its making: these, and one for
each two known values."""
_ALL_REMEMBERED: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class CategoricalColumn:
    """One categorical column as it was fitted.

    ``values`` have the codes from 3 on; ``rare`` were seen in train but share the code RARE. A column with more
    distinct values than are remembered is ``open_ended``: there a new value is nothing special, so that everything
    outside ``values`` is RARE and nothing is UNSEEN.

    >>> column = CategoricalColumn(name="c", kind="text", values=("b", "a"), rare=("z",), open_ended=False)
    >>> column.cardinality, column.codes(pa.array(["a", "z", "new", None])).tolist()
    (5, [4, 2, 1, 0])
    """

    name: str
    kind: ValueKind
    values: tuple[str, ...]
    rare: tuple[str, ...]
    open_ended: bool

    @property
    def cardinality(self) -> int:
        """Number of codes, the three special ones included."""
        return NUM_SPECIAL + len(self.values)

    def codes(self, text: pa.Array) -> np.ndarray:
        """Return ``(n,)`` int32 codes of a string array."""
        if len(text) <= _FEW + len(self._code_of) // 2:
            other = self._other
            return np.array([self._code_of.get(value, other) for value in text.to_pylist()], dtype=np.int32)
        # what is not found gets NUM_SPECIAL - 1, below every value's code; what is rare stands behind all of them
        found = pc.index_in(text, value_set=self._known)
        codes: np.ndarray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False) + np.int32(NUM_SPECIAL)
        codes[codes < NUM_SPECIAL] = self._other
        codes[codes >= self.cardinality] = RARE
        if text.null_count:
            codes[text.is_null().to_numpy(zero_copy_only=False)] = MISSING
        return codes

    @property
    def _other(self) -> int:
        return RARE if self.open_ended else UNSEEN

    @cached_property
    def _code_of(self) -> dict[str | None, int]:
        codes: dict[str | None, int] = dict.fromkeys(self.rare, RARE)
        codes.update({value: code for code, value in enumerate(self.values, NUM_SPECIAL)})
        codes[None] = MISSING
        return codes

    @cached_property
    def _known(self) -> pa.Array:
        return pa.array(self.values + self.rare, type=pa.string())

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CategoricalColumn:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        return cls(**{**data, "values": tuple(data["values"]), "rare": tuple(data["rare"])})


CategoricalPart = list[tuple[pa.Table, ValueKind]]


class CategoricalFit:
    """Counts the values of ``names``, batch by batch; memory grows with neither the rows nor the distinct values.

    >>> fitted = CategoricalFit(["c"], max_categories=10, min_frequency=2)
    >>> fitted.add(pa.record_batch({"c": ["a", "b", "a", None]}))
    >>> fitted.finish()[0].values, fitted.finish()[0].rare
    (('a',), ('b',))
    """

    def __init__(
        self, names: Sequence[str], *, max_categories: int, min_frequency: Literal["auto"] | int = "auto"
    ) -> None:
        share = max(1, len(names))
        capacity = max(1_000, min(_CAPACITY, _ALL_CAPACITY // share))
        max_bytes = max(2**20, _ALL_BYTES // share)
        self._counts = {name: ValueCounts(capacity, max_bytes=max_bytes) for name in names}
        self._kinds: dict[str, ValueKind] = {}
        self._max_categories = max_categories
        self._min_frequency = min_frequency
        self._remembered = min(_REMEMBERED, _ALL_REMEMBERED // share)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the values of ``batch``."""
        self.merge(self.part(batch))

    def part(self, batch: pa.RecordBatch) -> CategoricalPart:
        """Return what ``merge`` takes of ``batch``; changes nothing, so that threads may call it."""
        return [(value_counts(texts(batch, name)), value_kind(get_column(batch, name).type)) for name in self._counts]

    def merge(self, part: CategoricalPart) -> None:
        """Count the values of the next batch."""
        for (name, counts), (counted, kind) in zip(self._counts.items(), part, strict=True):
            counts.merge(counted)
            self._kinds[name] = kind

    def join(self, other: CategoricalFit) -> None:
        """Take the rows of another fit, which follow these."""
        for name, counts in self._counts.items():
            counts.join(other._counts[name])
        self._kinds |= other._kinds

    def compact(self) -> None:
        """Bring together what was counted."""
        for counts in self._counts.values():
            counts.compact()

    def finish(self) -> tuple[CategoricalColumn, ...]:
        """Return the fitted columns."""
        return tuple(self._column(name, counts.finish()) for name, counts in self._counts.items())

    def _column(self, name: str, counted: Counted) -> CategoricalColumn:
        least = _least_rows(counted) if self._min_frequency == "auto" else self._min_frequency
        frequent = int(np.count_nonzero(counted.counts >= least))
        kept = min(frequent, self._max_categories)
        # what was seen and forgotten cannot be told from what is new
        open_ended = counted.error > 0 or len(counted.values) > max(self._remembered, kept)
        try:
            values = counted.values[:kept].to_pylist()
            rare = [] if open_ended else counted.values[kept:].to_pylist()
        except UnicodeDecodeError as error:
            raise UserError(f"column {name!r} has text that is not UTF-8 ({error.reason}): repair the file") from None
        return CategoricalColumn(
            name=name, kind=self._kinds[name], values=tuple(values), rare=tuple(rare), open_ended=open_ended
        )


def _least_rows(counted: Counted) -> int:
    """Return the rows that a value needs: two in a column of which most rows have a value that no other row has.

    The codes of such values would be learned by heart, and nearly all that val brings would be new. Where few values
    stand once, what they tell is worth more than that they are rare.
    """
    repeated = counted.counts[counted.counts > 1].sum()
    return 1 if counted.error == 0 and 2 * repeated >= counted.counts.sum() else 2
