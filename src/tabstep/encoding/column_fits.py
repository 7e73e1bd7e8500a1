"""What an encoder learns of each column by itself, and of the labels, in one pass over train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from tabstep.encoding.categorical import CategoricalFit, CategoricalPart
from tabstep.encoding.foreign_columns import OwnOptions
from tabstep.encoding.labels import Label, LabelFit, LabelPart
from tabstep.encoding.numeric import NumericFit, NumericPart, Scaling
from tabstep.encoding.times import TimeFit
from tabstep.errors import UserError
from tabstep.schema import Schema, Task
from tabstep.tables.typed_table import Rows


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """How an encoder is fitted.

    ``max_categories`` values of a column keep a code, of those that ``min_frequency`` rows have. ``statistics`` lets
    rates of the target stand beside the categories where that helps. ``columns`` have a class of another package.
    """

    scaling: Scaling
    max_categories: int
    min_frequency: Literal["auto"] | int
    statistics: bool = True
    columns: tuple[OwnOptions, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Of one batch."""

    first_row: int
    num_rows: int
    labels: LabelPart
    numeric: NumericPart | None
    categorical: CategoricalPart
    times: list[Any]


class ColumnFits:
    """Collects, by ``tabstep.tables.scan``, all that an ``Encoder`` holds but its target statistics.

    Memory grows neither with the rows nor with the distinct values.
    """

    def __init__(
        self,
        source: Rows,
        schema: Schema,
        *,
        options: EncoderOptions,
        task: Task | None,
        classes: Sequence[Label] | None,
        seed: int,
    ) -> None:
        self.rows_wanted = source.num_rows
        self._rows = 0
        self._schema = schema
        self._types = [str(source.arrow_schema.field(name).type) for name in schema.label]
        self._labels = LabelFit(source.arrow_schema, schema.label, task=task, declared=classes, where=source.where)
        self._numeric = NumericFit(
            schema.numeric, scaling=options.scaling, num_rows=source.num_rows, num_labels=self._labels.width, seed=seed
        )
        self._categorical = CategoricalFit(
            schema.categorical, max_categories=options.max_categories, min_frequency=options.min_frequency
        )
        self._times = TimeFit(source.arrow_schema, schema.numeric)

    @property
    def schema(self) -> Schema:
        """The columns by their role."""
        return self._schema

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a batch must have."""
        return self._schema.label + self._schema.features

    @property
    def complete(self) -> bool:
        """Whether every row was taken."""
        return self._rows == self.rows_wanted

    def part(self, batch: pa.RecordBatch, first_row: int) -> _Part:
        """Return what ``merge`` takes of ``batch``; changes nothing, so that threads may call it.

        Raises:
            UserError: a label is null, or a value is none that its column may have.
        """
        return _Part(
            first_row=first_row,
            num_rows=batch.num_rows,
            labels=self._labels.part(batch, first_row),
            numeric=self._numeric.part(batch, first_row),
            categorical=self._categorical.part(batch),
            times=self._times.part(batch),
        )

    def merge(self, part: _Part) -> None:
        """Take the part of the next batch.

        Raises:
            UserError: a label is no class, or there are too many of them.
        """
        # labels first: the sample of the numbers holds the codes that they are given here
        self._numeric.merge(part.numeric, self._labels.merge(part.labels, part.first_row))
        self._categorical.merge(part.categorical)
        self._times.merge(part.times)
        self._rows += part.num_rows

    def join(self, other: ColumnFits) -> None:
        """Take the rows of another fit of the same table and arguments, which follow these.

        What comes of it hangs on how the rows were cut into fits, not on where each was made: counts, samples, times
        and labels are those of one pass, means and deviations are so up to the rounding of their sums.

        Raises:
            UserError: there are too many labels.
        """
        self._numeric.join(other._numeric, self._labels.join(other._labels, other._numeric.sampled_labels))
        self._categorical.join(other._categorical)
        self._times.join(other._times)
        self._rows += other._rows

    def compact(self) -> None:
        """Bring together what was counted, as it is before it is sent."""
        self._categorical.compact()

    def finish(self) -> dict[str, Any]:
        """Return the fields of the ``Encoder``, with no target statistics.

        Raises:
            UserError: the labels make no task.
        """
        task, classes = self._labels.finish()
        times = self._times.finish()
        return {
            "schema": self._schema,
            "task": task,
            "classes": classes,
            "label_type": ", ".join(self._types),
            "numeric": self._numeric.finish(),
            "categorical": self._categorical.finish(),
            "spikes": self._numeric.spikes(self._labels.targets),
            "times": times,
            "statistics": (),
        }


class Tentative:
    """A collector that gives up in silence where it meets an error: another one will say more of it.

    The checks list every fault of a table; what is fitted in the same pass must not stop them at the first.
    """

    def __init__(self, fits: ColumnFits) -> None:
        self.rows_wanted = fits.rows_wanted
        self.fits: ColumnFits | None = fits
        """None where it has given up."""

    def part(self, batch: pa.RecordBatch, first_row: int) -> _Part | None:
        """Return the part of the collector, or None where it has given up."""
        try:
            return None if self.fits is None else self.fits.part(batch, first_row)
        except UserError:
            return None

    def merge(self, part: _Part | None) -> None:
        """Pass the part on, until the first one that is missing."""
        try:
            if part is not None and self.fits is not None:
                self.fits.merge(part)
                return
        except UserError:
            pass
        self.fits = None

    def join(self, other: ColumnFits | None) -> None:
        """Take the rows of another fit, which follow these; None is one that has given up."""
        try:
            if other is not None and self.fits is not None:
                self.fits.join(other)
                return
        except UserError:
            pass
        self.fits = None
