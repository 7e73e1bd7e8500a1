"""Raw rows to probabilities, with the transform and the weights of training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.models.probabilities import probabilities
from tabstep.system.atomic_write import publishing
from tabstep.system.exits import writing
from tabstep.tables.record_batch import bounded_rows
from tabstep.tables.source import ParquetSource, open_source

CHUNK_ROWS = 16_384


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A fitted encoder and a trained model, and the weight of their probabilities among those of other members."""

    encoder: Encoder
    model: nn.Module
    weight: float = 1.0

    def probabilities_of(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        """Encode one raw batch and return its probabilities ``(n, classes)``; binary has both columns."""
        return self.spread(self.logits(*self.encoder.transform(batch)))

    @torch.inference_mode()
    def logits(self, x_num: NDArray[np.float32], x_cat: NDArray[np.int32]) -> Tensor:
        """Return logits ``(n, num_outputs)`` float32 of encoded rows, computed in chunks on the model's device."""
        device = next(self.model.parameters()).device
        size = bounded_rows(CHUNK_ROWS, x_num.shape[1] + x_cat.shape[1])
        parts = [
            self.model(
                torch.from_numpy(x_num[start : start + size]).to(device),
                torch.from_numpy(x_cat[start : start + size]).to(device),
            ).float()
            for start in range(0, max(len(x_num), 1), size)
        ]
        return torch.cat(parts)

    def spread(self, logits: Tensor) -> NDArray[np.float32]:
        """Turn logits into one column of probability a class."""
        probs = probabilities(logits, self.encoder.task).cpu()
        if self.encoder.task == "binary":
            probs = torch.stack([1.0 - probs, probs], dim=1)
        return probs.numpy()


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
    def class_names(self) -> tuple[str, ...]:
        """The classes as text, in the order of the probabilities."""
        return tuple(str(name) for name in self.encoder.classes)

    def predict(self, table: pa.Table | pa.RecordBatch | str | os.PathLike[str]) -> pa.Table:
        """Predict raw rows: a table, a record batch, or the location of parquet files.

        Returns:
            The id and label columns where the input has them, ``prob_<class>`` for each class or label, float32, and
            ``prediction`` (multilabel: ``prediction_<label>``), in the input's order.

        Raises:
            UserError: a feature column is missing or of a type that cannot be read as in training.
        """
        batches = [self._predict(batch) for batch in self._batches(table)]
        return pa.Table.from_batches(batches)

    def predict_file(
        self, table: str | os.PathLike[str], out: str | os.PathLike[str], *, batch_rows: int = 65_536
    ) -> int:
        """Stream parquet files into one parquet file with memory bounded by ``batch_rows``; return the number of rows.

        The output appears under its name when it is complete; of several at once into one file, one stays whole.

        Raises:
            UserError: as ``predict``, or ``out`` is one of the files that are read, no file, or cannot be written.
            RetryError: the disk is full.
        """
        target = Path(out)
        source = self._open(table)
        if any(os.path.realpath(path) == os.path.realpath(target) for path in source.files):
            raise UserError(f"{target}: is read and cannot be written at once: give the output another name")
        if target.is_dir():
            raise UserError(f"{target}: is a directory: name a file in it")
        if not target.parent.is_dir():
            raise UserError(f"{target}: there is no directory {target.parent}: make it first")
        with writing(f"{target}: cannot be written"), publishing(target) as temporary:
            return write_batches(temporary, map(self._predict, self._source_batches(source, batch_rows)))

    def _batches(self, table: Any, batch_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        if isinstance(table, pa.RecordBatch):
            yield table
        elif isinstance(table, pa.Table):
            # A table of no rows has no batches, but its prediction has a schema.
            yield from table.to_batches(batch_rows) or [pa.RecordBatch.from_pylist([], schema=table.schema)]
        else:
            yield from self._source_batches(self._open(table), batch_rows)

    def _open(self, table: str | os.PathLike[str]) -> ParquetSource:
        """Open parquet files; features that only the names of directories hold are read from these."""
        source = open_source(os.fspath(table), split="table")
        lacking = set(self.encoder.schema.features) - set(source.arrow_schema.names)
        if lacking & set(source.ignored_partitions):
            return open_source(os.fspath(table), split="table", partitioning="hive")
        return source

    def _source_batches(self, source: ParquetSource, batch_rows: int) -> Iterator[pa.RecordBatch]:
        schema = self.encoder.schema
        present = [name for name in schema.columns if name in source.arrow_schema.names]
        missing = [name for name in schema.features if name not in present]
        yield from source.batches(present + missing, batch_rows)

    def _predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        schema = self.encoder.schema
        keep = [name for name in (schema.id, *schema.label) if name is not None and name in batch.schema.names]
        probs = self.probabilities_of(batch)
        return self.result(pa.Table.from_batches([batch]).select(keep), probs)

    def result(self, rows: pa.Table, probs: NDArray[np.float32]) -> pa.RecordBatch:
        """Put the columns of ``rows`` (id, label) and ``probs`` (n, classes) into the form of a prediction."""
        columns = {name: rows.column(name).combine_chunks() for name in rows.column_names}
        for index, name in enumerate(self.class_names):
            columns[_free(f"prob_{name}", columns)] = pa.array(np.ascontiguousarray(probs[:, index]))
        if self.encoder.task == "multilabel":
            for index, name in enumerate(self.class_names):
                columns[_free(f"prediction_{name}", columns)] = pa.array((probs[:, index] > 0.5).astype(np.int8))
        else:
            winners = pa.array(_decide(probs))
            columns[_free("prediction", columns)] = pa.array(list(self.encoder.classes)).take(winners)
        return pa.RecordBatch.from_pydict(columns)

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


def weighted_mean(parts: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return the mean of arrays of one shape, formed in float64.

    >>> weighted_mean([np.float32([0.25, 0.75]), np.float32([0.75, 0.25])], [3, 1])
    array([0.375, 0.625], dtype=float32)
    """
    total = np.zeros_like(parts[0], dtype=np.float64)
    for part, weight in zip(parts, weights, strict=True):
        total += weight * part.astype(np.float64)
    return (total / sum(weights)).astype(np.float32)


def _decide(probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the likelier class; an exact half is the first one, as in the metrics."""
    return np.asarray(probs.argmax(axis=1), dtype=np.int64)


def _free(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "_"
    return name


def write_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write record batches of one schema with page checksums and return the number of rows."""
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, write_page_checksum=True)
            writer.write_batch(batch)
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows
