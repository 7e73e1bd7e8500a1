"""Evaluates one split: its scores and its file of predictions, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from tabstep.artifact.member import CHUNK_ROWS, Member
from tabstep.artifact.prediction_files import write_batches
from tabstep.artifact.predictor import Predictor
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.encoding.stored_rows import RowArrays
from tabstep.models.probabilities import probabilities
from tabstep.system.atomic_write import publishing
from tabstep.tables.record_batch import bounded_rows
from tabstep.training.calibration import CalibrationScores
from tabstep.training.losses import Loss
from tabstep.training.scores import EpochScores


def evaluate(
    member: Member, table: EncodedTable, loss: Loss, scores: EpochScores, predictions: Path
) -> dict[str, float]:
    """Score one split and write its predictions in one pass: id and label as in the source, a probability a class.

    Must run on one process, after the process group of a distributed run is gone.

    Returns:
        ``loss``, that of training on the model's own logits; the metrics of ``scores`` and ``ece``, the calibration
        error, on calibrated probabilities; ``raw_log_loss`` and ``raw_ece``, before the temperature.
    """
    predictor = Predictor([member])
    device = next(member.model.parameters()).device
    loss, scores = loss.to(device), scores.to(device)
    raw, calibrated = (CalibrationScores(member.encoder.task).to(device) for _ in range(2))

    def batches() -> Iterator[pa.RecordBatch]:
        size = _part_rows(table)
        for part, rows in zip(table.parts(size), table.row_parts(size), strict=True):
            logits = member.logits(part.x_num, part.x_cat)
            y = torch.from_numpy(part.y).to(device)
            weight = _weight(part, device)
            scores.add(member.calibrated(logits), y, *_loss_sums(loss, logits, y, weight), weight)
            raw.update(probabilities(logits, member.encoder.task), y, weight)
            calibrated.update(probabilities(member.calibrated(logits), member.encoder.task), y, weight)
            yield predictor.result(rows, member.spread(logits))

    predictions.parent.mkdir(parents=True, exist_ok=True)
    with publishing(predictions) as temporary:
        write_batches(temporary, batches())
    before, after = raw.compute(), calibrated.compute()
    return {
        **scores.compute(),
        "ece": float(after["ece"]),
        **{f"raw_{key}": float(value) for key, value in before.items()},
    }


def score(
    forward: Callable[[Tensor, Tensor], Tensor], table: EncodedTable, loss: Loss, scores: EpochScores
) -> dict[str, float]:
    """Score a function ``(x_num, x_cat) -> logits`` on one split, on the CPU; nothing is written."""
    for part in table.parts(_part_rows(table)):
        logits = forward(torch.from_numpy(part.x_num), torch.from_numpy(part.x_cat))
        y = torch.from_numpy(part.y)
        weight = _weight(part, y.device)
        scores.add(logits, y, *_loss_sums(loss, logits, y, weight), weight)
    return scores.compute()


def spaced_logits(
    forward: Callable[[NDArray[np.float32], NDArray[np.int32]], Tensor], table: EncodedTable, most: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what ``(x_num, x_cat) -> logits`` gives, targets and weights of rows on the CPU.

    They are at most ``most`` rows, evenly spaced.
    """
    # rounded up: never more than ``most``
    places, size = np.arange(0, table.num_rows, -(-table.num_rows // most)), _part_rows(table)
    logits, ys, weights = [], [], []
    for start in range(0, len(places), size):  # of a table on disk, no more than a part is in memory
        rows = table.take(places[start : start + size])
        logits.append(forward(rows.x_num, rows.x_cat).cpu())
        ys.append(torch.from_numpy(rows.y))
        if rows.weight is not None:
            weights.append(torch.from_numpy(rows.weight))
    return torch.cat(logits), torch.cat(ys), torch.cat(weights) if weights else None


def _part_rows(table: EncodedTable) -> int:
    return bounded_rows(CHUNK_ROWS, table.x_num.shape[1] + table.x_cat.shape[1])


def _weight(part: RowArrays, device: torch.device) -> Tensor | None:
    return None if part.weight is None else torch.from_numpy(part.weight).to(device)


@torch.no_grad()
def _loss_sums(loss: Loss, logits: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    losses, weights = loss(logits, y)
    weights = weights if weight is None else weights * weight
    return (losses * weights).sum(), weights.sum()
