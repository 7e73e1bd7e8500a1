"""What the data checks need to know of one split, gathered in one streaming pass of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from tabstep.checks.row_hash import hash_categories, hash_ids, hash_numbers, mix
from tabstep.schema import Schema
from tabstep.tables.column_types import is_number, to_float64, to_text, value_type
from tabstep.tables.source import ParquetSource

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

    def add(self, values: np.ndarray) -> None:
        missing, infinite = np.isnan(values), np.isinf(values)
        self.missing += int(np.count_nonzero(missing))
        self.infinite += int(np.count_nonzero(infinite))
        finite = values[~(missing | infinite)]
        if len(finite):
            self.minimum = min(self.minimum, float(finite.min()))
            self.maximum = max(self.maximum, float(finite.max()))


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

    def add(self, array: pa.Array, start: int) -> None:
        """Count a batch that begins at row ``start``."""
        encoded = to_text(array).dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        distinct, first, counts = np.unique(codes, return_index=True, return_counts=True)
        texts: list[str | None] = [*encoded.dictionary.to_pylist(), None]
        if self.fraction is None and is_number(value_type(array.type)):
            self.fraction = next((text for text in texts[:-1] if text and not text.lstrip("-").isdecimal()), None)
        for code, row, count in zip(distinct.tolist(), first.tolist(), counts.tolist(), strict=True):
            text = texts[code]
            if text is None:
                self.missing += count
            elif text in self.counts or len(self.counts) <= _LABEL_LIMIT:
                self.counts[text] = self.counts.get(text, 0) + count
            if len(self.first_row) <= _LABEL_LIMIT:
                self.first_row.setdefault(text, start + row)

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


def profile(source: ParquetSource, schema: Schema, *, row_limit: int = 5_000_000) -> Profile:
    """Look at the first ``row_limit`` rows of a split once (fewer in a table of thousands of columns)."""
    limit = min(source.num_rows, row_limit, max(10_000, _CELL_LIMIT // len(schema.columns)))
    wanted = max(500, min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(schema.features)))
    walk = _Walk(schema, step=max(1, -(-limit // wanted)))
    for batch in source.batches(schema.columns):
        walk.add(batch.slice(0, limit - walk.rows))
        if walk.rows >= limit:
            break
    return walk.profile(source.num_rows)


class _Walk:
    """The state of a pass."""

    def __init__(self, schema: Schema, *, step: int) -> None:
        self.rows = 0
        self._schema = schema
        self._step = step
        self._numeric = {name: Numeric() for name in schema.numeric}
        self._categorical = {name: Categorical() for name in schema.categorical}
        self._labels = {name: Label() for name in schema.label}
        self._row_hashes: list[np.ndarray] = []
        self._id_hashes: list[np.ndarray] = []
        self._samples: list[Sample] = []

    def add(self, batch: pa.RecordBatch) -> None:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        chosen = np.arange(-self.rows % self._step, batch.num_rows, self._step)
        hashes = np.zeros(batch.num_rows, dtype=np.uint64)
        numeric = np.empty((len(chosen), len(self._numeric)))
        categorical = np.empty((len(chosen), len(self._categorical)), dtype=np.uint64)
        labels = []
        for name, label in self._labels.items():
            label.add(columns[name], self.rows)
            hashes = mix(hashes + hash_categories(columns[name])[0])
            labels.append(_texts(columns[name], chosen))
        for position, (name, number) in enumerate(self._numeric.items()):
            values = to_float64(columns[name])
            number.add(values)
            hashes = mix(hashes + hash_numbers(values))
            numeric[:, position] = values[chosen]
        for position, (name, category) in enumerate(self._categorical.items()):
            cells, distinct, counts = hash_categories(columns[name])
            category.add(batch.num_rows - int(counts.sum()), distinct, counts)
            hashes = mix(hashes + cells)
            categorical[:, position] = cells[chosen]
        if self._schema.id is not None:
            self._id_hashes.append(hash_ids(columns[self._schema.id]))
        self._row_hashes.append(hashes)
        self._samples.append(Sample(numeric=numeric, categorical=categorical, labels=labels))
        self.rows += batch.num_rows

    def profile(self, num_rows: int) -> Profile:
        for column in self._categorical.values():
            column.merge()
        return Profile(
            num_rows=num_rows,
            scanned=self.rows,
            numeric=self._numeric,
            categorical=self._categorical,
            labels=self._labels,
            row_hashes=np.concatenate(self._row_hashes),
            id_hashes=np.concatenate(self._id_hashes) if self._id_hashes else None,
            sample=_joined(self._samples),
        )


def _texts(array: pa.Array, chosen: np.ndarray) -> np.ndarray:
    return np.asarray(to_text(array).take(pa.array(chosen)).fill_null("").to_pylist(), dtype=np.str_)


def _joined(samples: Sequence[Sample]) -> Sample:
    return Sample(
        numeric=np.concatenate([sample.numeric for sample in samples]),
        categorical=np.concatenate([sample.categorical for sample in samples]),
        labels=[np.concatenate(parts) for parts in zip(*(sample.labels for sample in samples), strict=True)],
    )
