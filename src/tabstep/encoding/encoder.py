"""The fitted transform of a table: columns of any Arrow type to the arrays a model takes, and labels to classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tabstep.encoding.categorical import CategoricalColumn
from tabstep.encoding.column_fits import ColumnFits, EncoderOptions
from tabstep.encoding.foreign_columns import OwnColumn, fit_own, values_of
from tabstep.encoding.labels import Label, class_codes, flags
from tabstep.encoding.numeric import NumericColumn
from tabstep.encoding.numeric_columns import NumericColumns
from tabstep.encoding.repeated_values import SpikeColumn
from tabstep.encoding.statistics_fit import CodeSample, FoldSums
from tabstep.encoding.target_statistics import MAX_OUTPUTS, TargetStatistic
from tabstep.encoding.times import TimeColumn
from tabstep.errors import UserError
from tabstep.schema import Schema, Task
from tabstep.system.ordered_map import ordered_map
from tabstep.tables.column_types import ValueKind
from tabstep.tables.parse_text import parsed_batch
from tabstep.tables.record_batch import numbers, texts
from tabstep.tables.scan import numbered, scan
from tabstep.tables.source import ParquetSource

# in the cache's key too: a new one fits all encoders again
FORMAT: Final = 4


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What was learned from the columns of the train split; the same in training, prediction and serving.

    ``classes`` are the labels in their own type and in the order of the outputs (the second of two is the positive
    one), or the label columns of a multilabel task.

    >>> import tempfile, pyarrow.parquet as pq
    >>> from tabstep.tables.source import open_source
    >>> path = tempfile.mkdtemp() + "/train.parquet"
    >>> pq.write_table(pa.table({"age": [20, None, 40], "job": ["a", "b", "a"], "y": ["no", "yes", "no"]}), path)
    >>> encoder = Encoder.fit(
    ...     open_source(path, split="train"),
    ...     Schema(label=("y",), numeric=("age",), categorical=("job",)),
    ...     options=EncoderOptions(scaling="standard", max_categories=100, min_frequency=1),
    ... )
    >>> encoder.classes, encoder.input_names, encoder.cardinalities
    (('no', 'yes'), ('age', 'age is missing'), (5,))
    >>> x_num, x_cat = encoder.transform(pa.record_batch({"job": ["b", "new"], "age": [40.0, None]}))
    >>> x_num.tolist(), x_cat.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [[4], [1]])
    """

    schema: Schema
    task: Task
    classes: tuple[Label, ...]
    label_type: str
    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    spikes: tuple[SpikeColumn, ...]
    times: tuple[TimeColumn, ...]
    statistics: tuple[TargetStatistic, ...]
    own: tuple[OwnColumn, ...] = ()

    @classmethod
    def fit(
        cls,
        source: ParquetSource,
        schema: Schema,
        *,
        options: EncoderOptions,
        task: Task | None = None,
        classes: Sequence[Label] | None = None,
        seed: int = 0,
    ) -> Encoder:
        """Fit on ``source``: one pass for each column by itself, a second one for what columns say together.

        Memory grows neither with the rows nor with the distinct values.

        Raises:
            UserError: a column is missing or of a type without meaning, or the labels make no task.
        """
        fits = ColumnFits(source, schema, options=options, task=task, classes=classes, seed=seed)
        return cls.of(fits, source, options)

    @classmethod
    def of(cls, fits: ColumnFits, source: ParquetSource, options: EncoderOptions) -> Encoder:
        """Return what ``fit`` does, from ``fits`` that may have taken the rows of ``source`` already."""
        if not fits.complete:
            scan(source, fits.columns, [fits])
        encoder = cls(**fits.finish(), own=fit_own(source, fits.schema, options.columns))
        if not options.statistics or not encoder.may_have_statistics:
            return encoder
        return encoder.with_statistics(encoder.code_sample([source], source.num_rows))

    @property
    def may_have_statistics(self) -> bool:
        """Whether there are codes, and not too many outputs, for rates of the target by them."""
        return bool(self.cardinalities) and self.num_outputs <= MAX_OUTPUTS

    def code_sample(self, sources: Sequence[ParquetSource], num_rows: int) -> CodeSample:
        """Read ``sources``, the whole or shards of a table of ``num_rows``, for what statistics are fitted on."""
        sample = self._code_sample(num_rows)
        for source in sources:
            for codes, targets, row in self._coded(source):
                sample.add(codes, targets, row)
        return sample

    def with_statistics(self, sample: CodeSample) -> Encoder:
        """Return an encoder with the statistics that a sample of all rows shows."""
        return replace(self, statistics=sample.fit(self.cardinalities))

    def _code_sample(self, num_rows: int) -> CodeSample:
        return CodeSample(num_columns=len(self.cardinalities), num_outputs=self.num_outputs, num_rows=num_rows)

    def _coded(self, source: ParquetSource) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Yield ``x_cat``, the targets ``(n, num_outputs)`` and the number of the first row, batch by batch.

        Only the columns that have codes are read: most of a table may be numbers.
        """
        numeric = self._coded_numbers
        read = [name for name in self.schema.features if name in numeric or name in self.schema.categorical]

        def coded(piece: tuple[pa.RecordBatch, int]) -> tuple[np.ndarray, np.ndarray, int]:
            batch, row = piece
            values = {name: numbers(batch, name, self.kinds[name]) for name in numeric}
            return self._codes(batch, values), self._targets(batch, row, source.where), row

        return ordered_map(coded, numbered(source.batches((*self.schema.label, *read)), source.first_row))

    def _targets(self, batch: pa.RecordBatch, first_row: int, where: str) -> np.ndarray:
        y = self.encode_labels(batch, first_row=first_row, where=where)
        if self.task == "multilabel":
            return y
        # one column of 0 and 1 for two classes: the other is what is left
        outputs = np.array([1]) if self.task == "binary" else np.arange(self.num_classes)
        targets: np.ndarray = (y[:, None] == outputs).astype(np.float64)
        return targets

    def fold_sums(self, sources: Sequence[ParquetSource], num_rows: int) -> FoldSums | None:
        """Read what the encoder was fitted on for what ``transform`` needs of it to hide its labels.

        Of shards of a table of ``num_rows``, what all of them have told must be joined before it is used.
        """
        if not self.statistics:
            return None
        sums = FoldSums(self.statistics, self._code_sample(num_rows))
        for source in sources:
            for codes, targets, row in self._coded(source):
                sums.add(codes, targets, row)
        return sums

    @property
    def num_classes(self) -> int:
        """Number of classes, or of labels."""
        return len(self.classes)

    @property
    def num_outputs(self) -> int:
        """Number of logits: 1 for a binary task, else one a class or label."""
        return 1 if self.task == "binary" else len(self.classes)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns of ``x_num``: scaled columns, missing indicators, parts of times, target statistics."""
        return (
            self.schema.numeric
            + tuple(f"{column.name} is missing" for column in self.numeric if column.indicator)
            + tuple(name for column in self.times for name in column.input_names)
            + tuple(name for statistic in self.statistics for name in self._statistic_names(statistic))
            + tuple(name for column in self.own for name in column.input_names)
        )

    @property
    def flags(self) -> tuple[int, ...]:
        """The columns of ``x_num`` that are 0 or 1: those that say whether a value is missing."""
        first = len(self.numeric)
        return tuple(range(first, first + sum(column.indicator for column in self.numeric)))

    def _statistic_names(self, statistic: TargetStatistic) -> list[str]:
        columns = self._columns_of(statistic)
        outputs = self.classes[1:] if self.task == "binary" else self.classes
        return [f"rate of {output} by {columns}" for output in outputs] + [f"count of {columns}"]

    def _columns_of(self, statistic: TargetStatistic) -> str:
        return " and ".join(self.code_names[column] for column in statistic.columns)

    @property
    def code_names(self) -> tuple[str, ...]:
        """Names of the columns of ``x_cat``."""
        return (
            self.schema.categorical
            + tuple(column.name for column in self.spikes)
            + tuple(name for column in self.times for name in column.code_names)
        )

    def decisions(self) -> list[str]:
        """Say in a line each what was found in the values of train, beyond what their types say."""
        codes = [f"{column.name}: {len(column.values):,} values have codes too: {column.why}" for column in self.spikes]
        parts = [
            f"{column.name}: read as {', '.join(dict.fromkeys((*column.codes, *column.cycles)))} and elapsed time"
            for column in self.times
        ]
        rates = [
            f"rate of {self.schema.label[0] if len(self.schema.label) == 1 else 'each label'} by "
            f"{self._columns_of(statistic)}: leaves {100 * statistic.gain:.2g} % less error in folds it has not seen"
            for statistic in self.statistics
        ]
        own = [f"{column.column}: {column.width} inputs of {column.name} stand beside it" for column in self.own]
        return codes + parts + rates + own

    @cached_property
    def kinds(self) -> dict[str, ValueKind]:
        """What the values of each feature column are, in the order of ``schema.features``."""
        numeric = {column.name: column.kind for column in self.numeric}
        return numeric | {column.name: column.kind for column in self.categorical}

    @property
    def num_numeric(self) -> int:
        """Width of ``x_num``."""
        return len(self.input_names)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each column of ``x_cat``: categories, values of numeric columns, parts of times."""
        return (
            tuple(column.cardinality for column in self.categorical)
            + tuple(column.cardinality for column in self.spikes)
            + tuple(size for column in self.times for size in column.cardinalities)
        )

    def transform(
        self, batch: pa.RecordBatch, *, first_row: int = 0, fold_sums: FoldSums | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``x_num`` (n, num_numeric) float32 and ``x_cat`` (n, len(cardinalities)) int32, both C-contiguous.

        Columns are taken by name; a row's result does not depend on the other rows. With ``fold_sums`` the batch is
        one of train, from its row ``first_row`` on, and its rates are those of other folds.

        Raises:
            UserError: a feature column is missing or has a type that cannot be read in its role.
        """
        # text of a request or a file; a source of the run has read it by its format already
        batch = parsed_batch(batch, dict(self.schema.parse))
        x_num = np.empty((batch.num_rows, self.num_numeric), dtype=np.float32)
        values = self._numeric_columns.encode(batch, x_num, keep=self._coded_numbers)
        x_cat = self._codes(batch, values)
        derived = [column.inputs(values[column.name]) for column in self.times]
        if fold_sums is None:
            derived += [statistic.inputs(x_cat) for statistic in self.statistics]
        else:
            derived += fold_sums.inputs(x_cat, first_row)
        for own in self.own:
            derived.append(own.inputs(values_of(batch, own.column, numeric=own.column in self.schema.numeric)))
        if derived:
            x_num[:, len(self.numeric) + len(self.flags) :] = np.column_stack(derived)
        return x_num, x_cat

    @cached_property
    def _numeric_columns(self) -> NumericColumns:
        return NumericColumns(self.numeric)

    @cached_property
    def _coded_numbers(self) -> frozenset[str]:
        """Numeric columns of which codes are made too."""
        return frozenset(column.name for column in self.spikes) | {column.name for column in self.times}

    def _codes(self, batch: pa.RecordBatch, values: Mapping[str, np.ndarray]) -> np.ndarray:
        x_cat = np.empty((batch.num_rows, len(self.cardinalities)), dtype=np.int32)
        for index, category in enumerate(self.categorical):
            x_cat[:, index] = category.codes(texts(batch, category.name, category.kind))
        for index, spike in enumerate(self.spikes, len(self.categorical)):
            x_cat[:, index] = spike.codes(values[spike.name])
        place = len(self.categorical) + len(self.spikes)
        for column in self.times:
            x_cat[:, place : place + len(column.codes)] = column.encode(values[column.name])
            place += len(column.codes)
        return x_cat

    def encode_labels(self, batch: pa.RecordBatch, *, first_row: int = 0, where: str = "table") -> np.ndarray:
        """Return (n,) int64 positions in ``classes``, or (n, num_classes) float32 of 0 and 1 for a multilabel task.

        ``first_row`` and ``where`` are only for messages: the row number of the batch's first row, and the table.

        Raises:
            UserError: a label is null or unknown; the message names the column, the row and the value.
        """
        if self.task == "multilabel":
            return flags(batch, self.schema.label, first_row=first_row, where=where)
        return class_codes(batch, self.schema.label[0], self.classes, first_row=first_row, where=where)

    def to_json(self) -> str:
        """Return plain JSON from which ``from_json`` rebuilds an equal encoder, to the last bit."""
        data = {
            "format": FORMAT,
            "schema": self.schema.to_dict(),
            "task": self.task,
            "classes": list(self.classes),
            "label_type": self.label_type,
            "numeric": [column.to_dict() for column in self.numeric],
            "categorical": [column.to_dict() for column in self.categorical],
            "spikes": [column.to_dict() for column in self.spikes],
            "times": [column.to_dict() for column in self.times],
            "statistics": [statistic.to_dict() for statistic in self.statistics],
            # Absent rather than empty: what was written before there were any stays what it is.
            **({"own": [column.to_dict() for column in self.own]} if self.own else {}),
        }
        return json.dumps(data, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """Rebuild an encoder from what ``to_json`` returned.

        Raises:
            UserError: the text is no encoder, or one of another format.
        """
        try:
            return cls._from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"encoder: cannot be read ({type(error).__name__}: {error}): write it again") from error

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> Encoder:
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, this version reads {FORMAT}")
        return cls(
            schema=Schema.from_dict(data["schema"]),
            task=data["task"],
            classes=tuple(data["classes"]),
            label_type=data["label_type"],
            numeric=tuple(NumericColumn.from_dict(column) for column in data["numeric"]),
            categorical=tuple(CategoricalColumn.from_dict(column) for column in data["categorical"]),
            spikes=tuple(SpikeColumn.from_dict(column) for column in data["spikes"]),
            times=tuple(TimeColumn.from_dict(column) for column in data["times"]),
            statistics=tuple(TargetStatistic.from_dict(statistic) for statistic in data["statistics"]),
            own=tuple(OwnColumn.from_dict(column) for column in data.get("own", [])),
        )

    def fingerprint(self) -> str:
        """Return a digest of all that was fitted."""
        return self._fingerprint

    # kept: an ensemble asks for it with every batch
    @cached_property
    def _fingerprint(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()
