"""Predictions that runs have stored, read back and scored: what an ensemble is chosen by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torchmetrics import Metric

from tabstep.analysis.ensemble_selection import Probabilities
from tabstep.analysis.stored_runs import StoredRun
from tabstep.artifact.predictor import weighted_mean
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.run_files import predictions_file
from tabstep.training.metrics import CountScores, RankScores, build_metrics

RANKING: Final = ("val_auroc", "val_average_precision")
METRICS: Final = (*RANKING, "val_log_loss", "val_accuracy", "val_f1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A finished run that may become a member."""

    name: str
    run: StoredRun
    encoder: Encoder


def check_fit(candidate: Candidate, first: Candidate) -> None:
    mine, other = _facts(candidate.encoder), _facts(first.encoder)
    for what in {**mine, **other}:
        if mine.get(what) != other.get(what):
            raise UserError(
                f"{candidate.run.path}: its {what} is {mine.get(what)!r}, that of {first.run.path} is "
                f"{other.get(what)!r}: members of an ensemble share columns, task and classes"
            )


def _facts(encoder: Encoder) -> dict[str, Any]:
    """Return what members must share."""
    schema = encoder.schema
    roles = {f"role of {name!r}": role for role in ("numeric", "categorical") for name in getattr(schema, role)}
    kinds = {f"kind of {name!r}": kind for name, kind in encoder.kinds.items()}
    return {
        "task": encoder.task,
        "label": schema.label,
        "id": schema.id,
        "list of classes": encoder.classes,
        **roles,
        "order of columns": schema.features,
        **kinds,
    }


class Split:
    """The stored predictions of one split: ``probs`` by name of the run, in the form that the metrics take.

    Raises:
        UserError: the runs did not predict the same rows, or a file is not what a run writes.
    """

    def __init__(self, candidates: Sequence[Candidate], split: str) -> None:
        self.split = split
        self.encoder = candidates[0].encoder
        self.rows, first = _read(candidates[0], split)
        self.probs = {candidates[0].name: first}
        for candidate in candidates[1:]:
            rows, self.probs[candidate.name] = _read(candidate, split)
            if not rows.equals(self.rows):
                raise UserError(
                    f"{candidate.run.path}: its rows of {split} are not those of {candidates[0].run.path}: runs can be "
                    f"joined that were scored on the same table: set data.{split} for all of them"
                )
        self.y = torch.from_numpy(self.encoder.encode_labels(_one_batch(self.rows), where=split))

    def score(self, probs: Probabilities, metric: str) -> float:
        """Return one score of ``METRICS``."""
        task, outputs = self.encoder.task, self.encoder.num_outputs
        scores: Metric = RankScores(task, outputs, bins=None) if metric in RANKING else CountScores(task, outputs)
        scores.update(torch.from_numpy(probs), self.y)
        return float(scores.compute()[metric.removeprefix("val_")])

    def scores(self, probs: Probabilities) -> dict[str, float]:
        """Return all scores by ``<split>_<metric>``."""
        metrics = build_metrics(self.encoder.task, self.encoder.num_outputs)
        metrics.update(torch.from_numpy(probs), self.y)
        found: dict[str, Tensor] = metrics.compute()
        return {f"{self.split}_{key}": float(value) for key, value in found.items()}

    def mean(self, counts: Mapping[str, int]) -> Probabilities:
        """Return the weighted mean of the probabilities of some runs."""
        return weighted_mean([self.probs[name] for name in counts], list(counts.values()))


def _read(candidate: Candidate, split: str) -> tuple[pa.Table, Probabilities]:
    """Return the id and label columns of stored predictions, and the probabilities."""
    path = predictions_file(candidate.run.path, split)
    encoder = candidate.encoder
    kept = len(encoder.schema.columns) - len(encoder.schema.features)
    try:
        # no partitioning: a directory named key=value above the run is no column of its predictions
        table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: is damaged: {str(error).splitlines()[0]}") from error
    columns = table.columns[kept : kept + encoder.num_classes]
    if len(columns) < encoder.num_classes or any(column.type != pa.float32() for column in columns):
        raise UserError(f"{path}: does not hold the predictions of {candidate.run.model}")
    probs = np.stack([column.to_numpy() for column in columns], axis=1)
    return table.select(range(kept)), np.ascontiguousarray(probs[:, 1] if encoder.task == "binary" else probs)


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    return rows.combine_chunks().to_batches()[0]
