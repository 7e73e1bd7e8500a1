"""What a finished run leaves behind: scores and predictions of each split, and the report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from tabstep.artifact.predictor import CHUNK_ROWS, Member, Predictor, write_batches
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.tables.record_batch import bounded_rows
from tabstep.training.losses import Loss
from tabstep.training.scores import EpochScores


def evaluate(
    member: Member, table: EncodedTable, loss: Loss, scores: EpochScores, predictions: Path
) -> dict[str, float]:
    """Score one split and write its predictions in one pass: id and label as in the source, a probability a class.

    Must run on one process, after the process group of a distributed run is gone.

    Returns:
        ``loss`` and the metrics of ``scores``.
    """
    predictor = Predictor([member])
    device = next(member.model.parameters()).device
    loss, scores = loss.to(device), scores.to(device)

    def batches() -> Iterator[pa.RecordBatch]:
        rows = table.rows()
        size = bounded_rows(CHUNK_ROWS, table.x_num.shape[1] + table.x_cat.shape[1])
        for start in range(0, table.num_rows, size):
            part = slice(start, start + size)
            logits = member.logits(table.x_num[part], table.x_cat[part])
            y = torch.from_numpy(table.y[part]).to(device)
            scores.add(logits, y, *_loss_sums(loss, logits, y))
            yield predictor.result(rows.slice(start, size), member.spread(logits))

    predictions.parent.mkdir(parents=True, exist_ok=True)
    temporary = predictions.with_name(f".{predictions.name}.tmp")
    write_batches(temporary, batches())
    os.replace(temporary, predictions)
    return scores.compute()


@torch.no_grad()
def _loss_sums(loss: Loss, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    losses, weights = loss(logits, y)
    return (losses * weights).sum(), weights.sum()
