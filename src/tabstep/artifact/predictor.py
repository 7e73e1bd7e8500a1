"""Raw tables to predictions: those of one member, or the weighted mean of several, in the form of the input."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tabstep.artifact.member import Member
from tabstep.artifact.prediction_files import prediction_writer
from tabstep.encoding.unseen import unseen_columns
from tabstep.errors import UserError
from tabstep.system.atomic_write import check_name, check_replaceable, publishing
from tabstep.system.exits import writing
from tabstep.tables.column_types import is_text, value_type
from tabstep.tables.frames import is_location, like, to_table
from tabstep.tables.readers import Rows, open_rows
from tabstep.tables.source import ParquetSource, open_source


class Predictor:
    """Raw tables in, probabilities out: those of a member, or the weighted mean of several. ``tabstep.load`` makes it.

    Members share schema, task and classes; what was fitted and learned is each one's own.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.encoder = self.members[0].encoder
        for member in self.members:
            member.model.eval()

    def to(self, device: str) -> Predictor:
        """Move every model to a device and return the predictor."""
        for member in self.members:
            member.model.to(device)
        return self

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Those of the members; where they differ, their mean by the members' weights."""
        if len({member.thresholds for member in self.members}) == 1:
            return self.members[0].thresholds
        count = max(len(member.thresholds) for member in self.members)
        spread = np.array([np.broadcast_to(member.thresholds, count) for member in self.members])
        return tuple(np.average(spread, axis=0, weights=[member.weight for member in self.members]).tolist())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as text, in the order of the probabilities."""
        return tuple(str(name) for name in self.encoder.classes)

    def predict(self, table: Any) -> Any:
        """Predict raw rows: a DataFrame, an Arrow table, a dict of arrays by column, or the location of files.

        Returns:
            The id and label columns where the input has them, ``prob_<class>`` for each class or label, float32, and
            ``prediction`` (multilabel: ``prediction_<label>``), in the input's order: a DataFrame for a DataFrame of
            pandas or polars, a dict for a dict, else an Arrow table.

        Raises:
            UserError: a feature column is missing or of a type that cannot be read as in training.
        """
        given, batches = self._rows(table)
        return like(pa.Table.from_batches([self._predict(batch, given) for batch in self._looked_at(batches)]), table)

    def predict_proba(self, table: Any) -> NDArray[np.float32]:
        """Return the probabilities ``(n, classes)`` of raw rows, in the order of ``class_names``."""
        return np.concatenate([self.probabilities_of(batch) for batch in self._rows(table)[1]])

    def predict_file(
        self, table: str | os.PathLike[str], out: str | os.PathLike[str], *, batch_rows: int = 65_536
    ) -> int:
        """Stream files into one file with memory bounded by ``batch_rows``; return the number of rows.

        ``out`` ends in .parquet or .csv (.csv.gz, .csv.zst). It appears under its name when it is complete; of several
        calls at once into one file, one stays whole.

        Raises:
            UserError: as ``predict``, or ``out`` is one of the files that are read, no file, or cannot be written.
            RetryError: the disk is full.
        """
        target = Path(out)
        check_name(target)
        check_replaceable(target)
        source = self.open_table(table)
        if any(os.path.realpath(path) == os.path.realpath(target) for path in source.files):
            raise UserError(f"{target}: is read and cannot be written at once: give the output another name")
        if target.is_dir():
            raise UserError(f"{target}: is a directory: name a file in it")
        if not target.parent.is_dir():
            raise UserError(f"{target}: there is no directory {target.parent}: make it first")
        write = prediction_writer(target)
        with writing(f"{target}: cannot be written"), publishing(target) as temporary:
            given = _given_schema(source)
            batches = self._looked_at(self._source_batches(source, batch_rows))
            return write(temporary, (self._predict(batch, given) for batch in batches))

    def _rows(self, table: Any, batch_rows: int = 65_536) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the types in which the columns were given, and the rows in those that Arrow computes on."""
        if is_location(table):
            source = self.open_table(table)
            return _given_schema(source), self._source_batches(source, batch_rows)
        rows = to_table(table, where="table")
        given = table.schema if isinstance(table, pa.Table | pa.RecordBatch) else rows.schema
        # A table of no rows has no batches, but its prediction has a schema.
        return given, iter(rows.to_batches(batch_rows) or [pa.RecordBatch.from_pylist([], schema=rows.schema)])

    def open_table(self, location: str | os.PathLike[str]) -> Rows:
        """Open files or a table of Delta or Iceberg; columns of CSV are read as what they were in training."""
        kinds = self.encoder.kinds | dict.fromkeys(dict(self.encoder.schema.parse), "text")  # the encoder parses it
        source = open_rows(os.fspath(location), where="table", kinds=kinds)
        if isinstance(source, ParquetSource):
            lacking = set(self.encoder.schema.features) - set(source.arrow_schema.names)
            if lacking & set(source.ignored_partitions):  # as in train, where directories' names were read as columns
                return open_source(os.fspath(location), split="table", partitioning="hive")
        return source

    def _source_batches(self, source: Rows, batch_rows: int) -> Iterator[pa.RecordBatch]:
        schema = self.encoder.schema
        present = [name for name in schema.columns if name in source.arrow_schema.names]
        missing = [name for name in schema.features if name not in present]
        # those that are missing too: the table itself says which it lacks
        yield from source.batches(present + missing, batch_rows)

    def _looked_at(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Warn of columns that are written otherwise than in train, as the first batch shows them."""
        for place, batch in enumerate(batches):
            if place == 0:
                for line in unseen_columns(self.encoder.categorical, batch):
                    warnings.warn(line, stacklevel=3)
            yield batch

    def _predict(self, batch: pa.RecordBatch, given: pa.Schema) -> pa.RecordBatch:
        schema = self.encoder.schema
        keep = [name for name in (schema.id, *schema.label) if name is not None and name in batch.schema.names]
        probs = self.probabilities_of(batch)
        rows = pa.Table.from_batches([batch]).select(keep)
        return self.result(rows.cast(pa.schema([_as_given(field, given) for field in rows.schema])), probs)

    def result(self, rows: pa.Table, probs: NDArray[np.float32]) -> pa.RecordBatch:
        """Put the columns of ``rows`` (id, label) and ``probs`` (n, classes) into the form of a prediction."""
        columns = {name: rows.column(name).combine_chunks() for name in rows.column_names}
        for index, name in enumerate(self.class_names):
            columns[_free(f"prob_{name}", columns)] = pa.array(np.ascontiguousarray(probs[:, index]))
        decided = self.decided(probs)
        if self.encoder.task == "multilabel":
            for index, name in enumerate(self.class_names):
                columns[_free(f"prediction_{name}", columns)] = pa.array(np.ascontiguousarray(decided[:, index]))
        else:
            columns[_free("prediction", columns)] = pa.array(list(self.encoder.classes)).take(pa.array(decided))
        return pa.RecordBatch.from_pydict(columns)

    def decided(self, probs: NDArray[np.float32]) -> NDArray[np.int8] | NDArray[np.int64]:
        """Return ``(n,)`` positions in the classes; of a multilabel task ``(n, labels)``, 1 for each that is taken."""
        if self.encoder.task != "multilabel":
            return decide(probs, self.thresholds[0])
        # float64: a threshold between two neighbours in float32 must stay between them
        least = np.array(self.thresholds)[np.arange(probs.shape[1]) % len(self.thresholds)]
        return (probs.astype(np.float64) > least).astype(np.int8)

    def probabilities_of(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        """Return the probabilities ``(n, classes)`` of one raw batch; binary has both columns."""
        if len(self.members) == 1:
            return self.members[0].probabilities_of(batch)
        encoded: dict[str, tuple[NDArray[np.float32], NDArray[np.int32]]] = {}
        parts = []
        for member in self.members:  # most members of a sweep were fitted alike: encode once for all of these
            key = member.encoder.fingerprint()
            if key not in encoded:
                encoded[key] = member.encoder.transform(batch)
            parts.append(member.spread(member.logits(*encoded[key])))
        return weighted_mean(parts, [member.weight for member in self.members])


def _given_schema(source: Rows) -> pa.Schema:
    return source.given_schema if isinstance(source, ParquetSource) else source.arrow_schema


def _as_given(field: pa.Field, given: pa.Schema) -> pa.Field:
    """Return a column of text in the layout that it was given in, so that predictions join with their table."""
    index = given.get_field_index(field.name)
    if index < 0 or not (is_text(value_type(field.type)) and is_text(value_type(given.field(index).type))):
        return field
    return field.with_type(given.field(index).type)


def weighted_mean(parts: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return the mean of arrays of one shape, formed in float64.

    >>> weighted_mean([np.float32([0.25, 0.75]), np.float32([0.75, 0.25])], [3, 1])
    array([0.375, 0.625], dtype=float32)
    """
    total = np.zeros_like(parts[0], dtype=np.float64)
    for part, weight in zip(parts, weights, strict=True):
        total += weight * part.astype(np.float64)
    return (total / sum(weights)).astype(np.float32)


def decide(probs: NDArray[np.float32], threshold: float = 0.5) -> NDArray[np.int64]:
    """Return the likeliest class; an exact half is the first of two, as in the metrics, or what a threshold says."""
    if threshold != 0.5 and probs.shape[1] == 2:
        return (probs[:, 1].astype(np.float64) > threshold).astype(np.int64)
    return np.asarray(probs.argmax(axis=1), dtype=np.int64)


def _free(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "_"
    return name
