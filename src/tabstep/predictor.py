"""Raw rows to probabilities, with the transform and the weights of training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tabstep.encoder import Encoder
from tabstep.probabilities import probabilities
from tabstep.source import open_source

CHUNK_ROWS = 16_384


class Predictor:
    """A fitted encoder and a trained model: raw tables in, probabilities out. Made by ``tabstep.load``."""

    def __init__(self, encoder: Encoder, model: nn.Module) -> None:
        self.encoder = encoder
        self.model = model.eval()

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

        The output appears under its name when it is complete.
        """
        target = Path(out)
        temporary = target.with_name(f".{target.name}.tmp")
        rows = write_batches(temporary, map(self._predict, self._batches(table, batch_rows)))
        os.replace(temporary, target)
        return rows

    def _batches(self, table: Any, batch_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        if isinstance(table, pa.RecordBatch):
            yield table
        elif isinstance(table, pa.Table):
            # A table of no rows has no batches, but its prediction has a schema.
            yield from table.to_batches(batch_rows) or [pa.RecordBatch.from_pylist([], schema=table.schema)]
        else:
            source = open_source(os.fspath(table), split="table")
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
        """Encode one raw batch and return its probabilities ``(n, classes)``; binary has both columns."""
        x_num, x_cat = self.encoder.transform(batch)
        return self.spread(self.logits(x_num, x_cat))

    @torch.inference_mode()
    def logits(self, x_num: NDArray[np.float32], x_cat: NDArray[np.int32]) -> Tensor:
        """Return logits ``(n, num_outputs)`` float32 of encoded rows, computed in chunks on the model's device."""
        device = next(self.model.parameters()).device
        parts = [
            self.model(
                torch.from_numpy(x_num[start : start + CHUNK_ROWS]).to(device),
                torch.from_numpy(x_cat[start : start + CHUNK_ROWS]).to(device),
            ).float()
            for start in range(0, max(len(x_num), 1), CHUNK_ROWS)
        ]
        return torch.cat(parts)

    def spread(self, logits: Tensor) -> NDArray[np.float32]:
        """Turn logits into one column of probability a class."""
        probs = probabilities(logits, self.encoder.task).cpu()
        if self.encoder.task == "binary":
            probs = torch.stack([1.0 - probs, probs], dim=1)
        return probs.numpy()


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
