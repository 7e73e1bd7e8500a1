"""What the data checks need to know of one split, gathered in one streaming pass of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from tabstep.checks.row_hash import hash_categories, hash_encoded, hash_ids, hash_numbers, mix
from tabstep.schema import Schema
from tabstep.tables.column_types import is_number, to_float64, to_text, value_type
from tabstep.tables.scan import Collector, scan
from tabstep.tables.source import ParquetSource

ROW_LIMIT: Final = 5_000_000  # rows that are looked at
_CELL_LIMIT: Final = 500_000_000  # of the rows that are looked at, in very wide tables
_DISTINCT_LIMIT: Final = 2_000_000  # of one column
_MERGE_AT: Final = 2**16
_LABEL_LIMIT: Final = 10_000  # distinct values of a label
_SAMPLE_CELLS: Final = 2_000_000
_SAMPLE_ROWS: Final = 20_000


@dataclass(kw_only=True)
class Numeric:
    """Counts and bounds of a numeric column."""

    missing: int = 0
    infinite: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf

    @classmethod
    def of(cls, values: np.ndarray) -> Numeric:
        """Count ``(n,)`` float64."""
        missing, infinite = int(np.count_nonzero(np.isnan(values))), 0
        low, high = float(np.fmin.reduce(values, initial=np.inf)), float(np.fmax.reduce(values, initial=-np.inf))
        # most columns have no infinities, and are looked at once
        if low == -np.inf or high == np.inf:
            finite = values[np.isfinite(values)]
            infinite = len(values) - len(finite) - missing
            low, high = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
        return cls(missing=missing, infinite=infinite, minimum=low, maximum=high)

    def add(self, other: Numeric) -> None:
        self.missing += other.missing
        self.infinite += other.infinite
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)


@dataclass(kw_only=True)
class Categorical:
    """Missing cells, and the hashes of the distinct values with their counts; ``complete`` until there are too many.

    ``values`` is sorted, and whole once ``merge`` has been called.
    """

    missing: int = 0
    values: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    complete: bool = True
    _waiting: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _waiting_size: int = 0

    def add(self, missing: int, values: np.ndarray, counts: np.ndarray) -> None:
        self.missing += missing
        if not self.complete:
            return
        self._waiting.append((values, counts))
        self._waiting_size += len(values)
        # Merged when as many wait as there are: each value is then sorted a few times, not once a batch.
        if self._waiting_size >= max(_MERGE_AT, len(self.values)):
            self.merge()

    def join(self, other: Categorical) -> None:
        """Take the counts of the rows that follow."""
        self.add(other.missing, other.values, other.counts)
        self.complete = self.complete and other.complete

    def merge(self) -> None:
        parts = [(self.values, self.counts), *self._waiting]
        values = np.concatenate([part[0] for part in parts])
        order = np.argsort(values)
        values, counts = values[order], np.concatenate([part[1] for part in parts])[order]
        first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
        self.values, self.counts = values[first], np.add.reduceat(counts, first) if len(first) else counts
        self._waiting, self._waiting_size = [], 0
        self.complete = len(self.values) <= _DISTINCT_LIMIT


@dataclass(kw_only=True)
class Label:
    """The values of a label column as text, how often and where first; missing ones likewise."""

    counts: dict[str, int] = field(default_factory=dict)
    first_row: dict[str | None, int] = field(default_factory=dict)
    missing: int = 0
    fraction: str | None = None  # the first value of a numeric column that is no integer

    def add(self, encoded: pa.DictionaryArray, start: int, *, numeric: bool) -> None:
        """Count a batch that begins at row ``start``, as dictionary of its texts; ``numeric``: they were numbers."""
        # null is -1, which finds the last of the texts below
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        distinct, first, counts = np.unique(codes, return_index=True, return_counts=True)
        texts: list[str | None] = [*encoded.dictionary.to_pylist(), None]
        if self.fraction is None and numeric:
            self.fraction = next((text for text in texts[:-1] if text and not text.lstrip("-").isdecimal()), None)
        for code, row, count in zip(distinct.tolist(), first.tolist(), counts.tolist(), strict=True):
            text = texts[code]
            if text is None:
                self.missing += count
            elif text in self.counts or len(self.counts) <= _LABEL_LIMIT:
                self.counts[text] = self.counts.get(text, 0) + count
            if len(self.first_row) <= _LABEL_LIMIT:
                self.first_row.setdefault(text, start + row)

    def join(self, other: Label) -> None:
        """Take the counts of the rows that follow."""
        self.missing += other.missing
        self.fraction = self.fraction if self.fraction is not None else other.fraction
        for text, count in other.counts.items():
            if text in self.counts or len(self.counts) <= _LABEL_LIMIT:
                self.counts[text] = self.counts.get(text, 0) + count
        for seen, row in other.first_row.items():
            if len(self.first_row) <= _LABEL_LIMIT:
                self.first_row.setdefault(seen, row)

    @property
    def complete(self) -> bool:
        return len(self.counts) <= _LABEL_LIMIT


@dataclass(kw_only=True)
class Sample:
    """Evenly spaced rows: numeric ``(m, n)`` float64, categorical ``(m, c)`` uint64 hashes, the labels' texts."""

    numeric: np.ndarray
    categorical: np.ndarray
    labels: list[np.ndarray]


@dataclass(kw_only=True)
class Profile:
    """One split. Hashes are of the rows that were looked at: all of them, or the first ``scanned``."""

    num_rows: int
    scanned: int
    numeric: dict[str, Numeric]
    categorical: dict[str, Categorical]
    labels: dict[str, Label]
    row_hashes: np.ndarray
    id_hashes: np.ndarray | None
    sample: Sample


def profile(
    source: ParquetSource, schema: Schema, *, row_limit: int = ROW_LIMIT, beside: Sequence[Collector] = ()
) -> Profile:
    """Look at the first ``row_limit`` rows of a split once (fewer in a table of thousands of columns).

    ``beside`` are collectors that take the rows in the same pass.
    """
    walk = Walk.over(source.num_rows, schema, row_limit=row_limit)
    scan(source, schema.columns, [walk, *beside])
    return walk.profile(source.num_rows)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Of one batch."""

    first_row: int
    labels: list[tuple[pa.DictionaryArray, bool]]
    numeric: list[Numeric]
    categorical: list[tuple[int, np.ndarray, np.ndarray]]
    row_hashes: np.ndarray
    id_hashes: np.ndarray | None
    sample: Sample


class Walk:
    """The state of a pass: a ``Collector``."""

    @classmethod
    def over(cls, num_rows: int, schema: Schema, *, row_limit: int = ROW_LIMIT) -> Walk:
        """Begin a pass over a table, or over a shard of one of ``num_rows``."""
        limit = min(num_rows, row_limit, max(10_000, _CELL_LIMIT // len(schema.columns)))
        wanted = max(500, min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(schema.features)))
        return cls(schema, rows_wanted=limit, step=max(1, -(-limit // wanted)))

    def __init__(self, schema: Schema, *, rows_wanted: int, step: int) -> None:
        self.rows_wanted = rows_wanted
        self._rows = 0
        self._schema = schema
        self._step = step
        self._numeric = {name: Numeric() for name in schema.numeric}
        self._categorical = {name: Categorical() for name in schema.categorical}
        self._labels = {name: Label() for name in schema.label}
        self._row_hashes: list[np.ndarray] = []
        self._id_hashes: list[np.ndarray] = []
        self._samples: list[Sample] = []

    def part(self, batch: pa.RecordBatch, first_row: int) -> _Part | None:
        batch = batch.slice(0, max(0, self.rows_wanted - first_row))
        if not batch.num_rows:
            return None
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        # by the number of a row in its split, however that is cut into batches
        chosen = np.arange(-first_row % self._step, batch.num_rows, self._step)
        hashes = np.zeros(batch.num_rows, dtype=np.uint64)
        sampled_numbers = np.empty((len(chosen), len(self._numeric)))
        sampled_cells = np.empty((len(chosen), len(self._categorical)), dtype=np.uint64)
        labels, numeric, categorical = [], [], []
        # mixed after every column: equal cells in another order are another row
        for name in self._labels:
            encoded = to_text(columns[name]).dictionary_encode()
            labels.append((encoded, is_number(value_type(columns[name].type))))
            hashes = mix(hashes + hash_encoded(encoded)[0])
        for position, name in enumerate(self._numeric):
            values = to_float64(columns[name])
            numeric.append(Numeric.of(values))
            hashes = mix(hashes + hash_numbers(values))
            sampled_numbers[:, position] = values[chosen]
        for position, name in enumerate(self._categorical):
            cells, distinct, counts = hash_categories(columns[name])
            categorical.append((batch.num_rows - int(counts.sum()), distinct, counts))
            hashes = mix(hashes + cells)
            sampled_cells[:, position] = cells[chosen]
        return _Part(
            first_row=first_row,
            labels=labels,
            numeric=numeric,
            categorical=categorical,
            row_hashes=hashes,
            id_hashes=None if self._schema.id is None else hash_ids(columns[self._schema.id]),
            sample=Sample(
                numeric=sampled_numbers,
                categorical=sampled_cells,
                labels=[_texts(label, chosen) for label, _ in labels],
            ),
        )

    def merge(self, part: _Part | None) -> None:
        if part is None:
            return
        for label, (texts, numeric) in zip(self._labels.values(), part.labels, strict=True):
            label.add(texts, part.first_row, numeric=numeric)
        for number, found in zip(self._numeric.values(), part.numeric, strict=True):
            number.add(found)
        for category, cells in zip(self._categorical.values(), part.categorical, strict=True):
            category.add(*cells)
        if part.id_hashes is not None:
            self._id_hashes.append(part.id_hashes)
        self._row_hashes.append(part.row_hashes)
        self._samples.append(part.sample)
        self._rows += len(part.row_hashes)

    def join(self, other: Walk) -> None:
        """Take the rows of another pass over the same table, which follow these."""
        for name, label in self._labels.items():
            label.join(other._labels[name])
        for name, number in self._numeric.items():
            number.add(other._numeric[name])
        for name, category in self._categorical.items():
            # what waits in it is not among its values yet
            other._categorical[name].merge()
            category.join(other._categorical[name])
        self._row_hashes += other._row_hashes
        self._id_hashes += other._id_hashes
        self._samples += other._samples
        self._rows += other._rows

    def profile(self, num_rows: int) -> Profile:
        for column in self._categorical.values():
            column.merge()
        return Profile(
            num_rows=num_rows,
            scanned=self._rows,
            numeric=self._numeric,
            categorical=self._categorical,
            labels=self._labels,
            row_hashes=np.concatenate(self._row_hashes),
            id_hashes=np.concatenate(self._id_hashes) if self._id_hashes else None,
            sample=_joined(self._samples),
        )


def _texts(label: pa.DictionaryArray, chosen: np.ndarray) -> np.ndarray:
    # a code of -1, which is null, finds the last text
    texts = np.array([text or "" for text in label.dictionary.to_pylist()] + [""], dtype=np.str_)
    taken: np.ndarray = texts[label.indices.fill_null(-1).to_numpy(zero_copy_only=False)[chosen]]
    return taken


def _joined(samples: Sequence[Sample]) -> Sample:
    return Sample(
        numeric=np.concatenate([sample.numeric for sample in samples]),
        categorical=np.concatenate([sample.categorical for sample in samples]),
        labels=[np.concatenate(parts) for parts in zip(*(sample.labels for sample in samples), strict=True)],
    )
