"""The fitted transform of a table: columns of any Arrow type to the arrays a model takes, and labels to classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tabstep.config.settings import EncoderSettings
from tabstep.encoding.categorical import CategoricalColumn, CategoricalFit
from tabstep.encoding.labels import Label, LabelFit, class_codes, flags
from tabstep.encoding.numeric import NumericColumn, NumericFit
from tabstep.encoding.repeated_values import SpikeColumn
from tabstep.errors import UserError
from tabstep.schema import Schema, Task
from tabstep.tables.record_batch import numbers, texts
from tabstep.tables.source import ParquetSource

FORMAT: Final = 2


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
    ...     settings=EncoderSettings(scaling="standard", max_categories=100, min_frequency=1),
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

    @classmethod
    def fit(
        cls,
        source: ParquetSource,
        schema: Schema,
        *,
        settings: EncoderSettings,
        task: Task | None = None,
        classes: Sequence[Label] | None = None,
        seed: int = 0,
    ) -> Encoder:
        """Fit on one pass over ``source``; memory grows neither with the rows nor with the distinct values.

        Raises:
            UserError: a column is missing or of a type without meaning, or the labels make no task.
        """
        num_rows = source.num_rows
        labels = LabelFit(source.arrow_schema, schema.label, task=task, declared=classes, where=source.where)
        numeric = NumericFit(schema.numeric, scaling=settings.scaling, num_rows=num_rows, seed=seed)
        categorical = CategoricalFit(
            schema.categorical, max_categories=settings.max_categories, min_frequency=settings.min_frequency
        )
        row = 0
        for batch in source.batches(schema.label + schema.features):
            labels.add(batch, row)
            numeric.add(batch, row)
            categorical.add(batch)
            row += batch.num_rows
        found_task, found_classes = labels.finish()
        return cls(
            schema=schema,
            task=found_task,
            classes=found_classes,
            label_type=", ".join(str(source.arrow_schema.field(name).type) for name in schema.label),
            numeric=numeric.finish(),
            categorical=categorical.finish(),
            spikes=numeric.spikes(),
        )

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
        """Names of the columns of ``x_num``: the scaled columns, then the missing indicators."""
        return self.schema.numeric + tuple(f"{column.name} is missing" for column in self.numeric if column.indicator)

    @property
    def num_numeric(self) -> int:
        """Width of ``x_num``."""
        return len(self.input_names)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each column of ``x_cat``: the categorical columns, then the numeric ones with a spike."""
        return tuple(column.cardinality for column in self.categorical) + tuple(
            column.cardinality for column in self.spikes
        )

    def transform(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return ``x_num`` (n, num_numeric) float32 and ``x_cat`` (n, len(cardinalities)) int32, both C-contiguous.

        Columns are taken by name; a row's result does not depend on the other rows.

        Raises:
            UserError: a feature column is missing or has a type that cannot be read in its role.
        """
        x_num = np.empty((batch.num_rows, self.num_numeric), dtype=np.float32)
        x_cat = np.empty((batch.num_rows, len(self.cardinalities)), dtype=np.int32)
        spikes = {column.name: (index, column) for index, column in enumerate(self.spikes, len(self.categorical))}
        indicator = len(self.numeric)
        for index, column in enumerate(self.numeric):
            values = numbers(batch, column.name)
            x_num[:, index] = column.apply(values)
            if column.indicator:
                x_num[:, indicator] = np.isnan(values)
                indicator += 1
            if column.name in spikes:
                place, spike = spikes[column.name]
                x_cat[:, place] = spike.codes(values)
        for index, category in enumerate(self.categorical):
            x_cat[:, index] = category.codes(texts(batch, category.name, category.kind))
        return x_num, x_cat

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
        )

    def fingerprint(self) -> str:
        """Return a digest of all that was fitted."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()
