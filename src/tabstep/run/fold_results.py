"""What the folds of a cross-validation have left becomes one: their predictions, streamed, and the scores of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from tabstep.artifact.load import load
from tabstep.artifact.member import Member
from tabstep.artifact.prediction_files import write_batches
from tabstep.artifact.predictor import Predictor, weighted_mean
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError
from tabstep.registry import PluginSettings
from tabstep.run.build_scores import build_scores
from tabstep.run.decision import thresholds_for
from tabstep.run_files import MODEL, predictions_file
from tabstep.schema import Split
from tabstep.system.atomic_write import publishing
from tabstep.training.calibration import MOST_ROWS, CalibrationScores

_ROWS: Final = 65_536
FOLD: Final = "fold"
Part = tuple[pa.Table, NDArray[np.float32], NDArray[np.int16] | None]
"""Rows (id, label), their probabilities ``(n, classes)``, and the fold of each; of test there is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """A fold's run that is complete; ``weight`` is that of its model in the mean."""

    number: int
    path: Path
    report: Mapping[str, Any]
    member: Member
    train_rows: int
    weight: float

    @classmethod
    def read(cls, number: int, path: Path, report: Mapping[str, Any], *, train_rows: int, weight: float) -> Self:
        """Open the run of a fold with its model, which is checked by that."""
        member = replace(load(path / MODEL).members[0], weight=weight)
        return cls(number=number, path=path, report=report, member=member, train_rows=train_rows, weight=weight)

    def rows(self, split: str) -> int:
        """Return the number of predictions of a split."""
        return int(pq.read_metadata(predictions_file(self.path, split)).num_rows)


class Joined:
    """The folds as one model. ``scores`` and ``labels`` of a split are there after ``write``.

    Args:
        numbers: of each row of train, the fold that it is val of; 0 for none.
        decision: the goal of the thresholds, which are chosen on predictions that no model made of rows it had seen.
        weights: of the rows of train and of test; empty where rows have none.

    Raises:
        UserError: the folds do not know the same classes.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        numbers: np.ndarray,
        *,
        decision: str | None,
        extra: Sequence[PluginSettings],
        weights: Mapping[Split, np.ndarray],
    ) -> None:
        self.folds = tuple(folds)
        self._numbers, self._decision, self._extra = _predicted(numbers, folds), decision, extra
        self._weights = dict(weights)
        if "train" in self._weights:
            self._weights["val"] = self._weights["train"][self._numbers > 0]
        self.scores: dict[str, dict[str, float]] = {}
        self.labels: dict[Split, np.ndarray] = {}
        for fold in self.folds:
            if fold.member.encoder.classes != self.encoder.classes:
                raise UserError(
                    f"data.folds: fold {fold.number} knows the classes {list(fold.member.encoder.classes)}, fold "
                    f"{self.folds[0].number} {list(self.encoder.classes)}: set schema.classes, or fewer folds"
                )

    @property
    def encoder(self) -> Encoder:
        """That of the first fold: schema, task and classes are those of all."""
        return self.folds[0].member.encoder

    @cached_property
    def thresholds(self) -> tuple[float, ...] | None:
        """Chosen on the out-of-fold predictions; None where nothing was asked for."""
        if self._decision is None:
            return None
        every = -(-int(np.count_nonzero(self._numbers)) // MOST_ROWS)
        # every n-th of each part: nothing but a part is in memory at a time
        parts = [(probs[::every], self._encoded(rows)[::every]) for rows, probs, _ in self._parts("val")]
        probs = torch.from_numpy(np.concatenate([probs for probs, _ in parts]))
        found = probs[:, 1] if self.encoder.task == "binary" else probs
        return thresholds_for(self._decision, self.encoder, found, np.concatenate([y for _, y in parts]))

    @cached_property
    def predictor(self) -> Predictor:
        """The mean of the models, with the thresholds that were chosen for it."""
        members = [fold.member for fold in self.folds]
        if self.thresholds is not None:
            members = [replace(member, thresholds=self.thresholds) for member in members]
        return Predictor(members)

    def write(self, split: Split, output: Path) -> None:
        """Write the predictions of a split below ``output``, and score them.

        Those of val are of every row of train that is val of a fold, in the order of train, each by the model that has
        not seen the row; a last column has its fold. Those of test are the mean of all models.
        """
        count = int(np.count_nonzero(self._numbers)) if split == "val" else self.folds[0].rows(split)
        scores = build_scores(self.encoder, count, self._extra).metrics
        calibration = CalibrationScores(self.encoder.task)
        labels: list[np.ndarray] = []

        def batches() -> Iterator[pa.RecordBatch]:
            start = 0
            for rows, probs, numbers in self._parts(split):
                y = self._encoded(rows)
                labels.append(y)
                given = torch.from_numpy(np.ascontiguousarray(probs[:, 1] if self.encoder.task == "binary" else probs))
                weight = self._weights.get(split)
                named = {} if weight is None else {"weight": torch.from_numpy(weight[start : start + len(y)])}
                start += len(y)
                for each in (scores, calibration):
                    each.update(given, torch.from_numpy(y), **named)
                batch = self.predictor.result(rows, probs)
                yield batch if numbers is None else batch.append_column(_free(FOLD, batch), pa.array(numbers))

        file = predictions_file(output, split)
        file.parent.mkdir(parents=True, exist_ok=True)
        with publishing(file) as temporary:
            write_batches(temporary, batches())
        found = {**scores.compute(), "ece": calibration.compute()["ece"]}
        self.scores[split] = {key: float(value) for key, value in found.items()}
        self.labels[split] = np.concatenate(labels)

    def _encoded(self, rows: pa.Table) -> np.ndarray:
        # in one chunk, for one batch with all rows
        return self.encoder.encode_labels(rows.combine_chunks().to_batches()[0], where=FOLD)

    def _parts(self, split: str) -> Iterator[Part]:
        with ExitStack() as stack:
            readers = [stack.enter_context(_Reader(predictions_file(fold.path, split), self)) for fold in self.folds]
            yield from self._out_of_fold(readers) if split == "val" else self._means(readers)

    def _out_of_fold(self, readers: Sequence[_Reader]) -> Iterator[Part]:
        """Take each row from the run that has it as val, in the order of train."""
        for start in range(0, len(self._numbers), _ROWS):
            numbers = self._numbers[start : start + _ROWS]
            numbers = numbers[numbers > 0]
            if not len(numbers):
                continue
            parts = [reader.take(int(np.count_nonzero(numbers == fold.number))) for fold, reader in self._with(readers)]
            # the rows come fold by fold: the inverse of that order leads back to the order of train
            back = np.argsort(np.argsort(numbers, kind="stable"), kind="stable")
            rows = pa.concat_tables([rows for rows, _ in parts])
            yield rows.take(pa.array(back)), np.concatenate([probs for _, probs in parts])[back], numbers

    def _with(self, readers: Sequence[_Reader]) -> Iterator[tuple[Fold, _Reader]]:
        return zip(self.folds, readers, strict=True)

    def _means(self, readers: Sequence[_Reader]) -> Iterator[Part]:
        """Average what every run predicts for the same rows."""
        count = self.folds[0].rows("test")
        for start in range(0, count, _ROWS):
            parts = [reader.take(min(_ROWS, count - start)) for reader in readers]
            for fold, (rows, _) in zip(self.folds, parts, strict=True):
                if not rows.equals(parts[0][0]):
                    raise UserError(f"{fold.path}: its rows of test are not those of the first fold: run again anew")
            yield parts[0][0], weighted_mean([probs for _, probs in parts], [fold.weight for fold in self.folds]), None


def _predicted(numbers: np.ndarray, folds: Sequence[Fold]) -> np.ndarray:
    """Return the folds of the rows without those that ``trainer.limit_val_batches`` has left out."""
    kept = numbers.copy()
    for fold in folds:
        kept[np.flatnonzero(numbers == fold.number)[fold.rows("val") :]] = 0
    return kept


class _Reader:
    """The stored predictions of one run, so many rows at a time."""

    def __init__(self, path: Path, joined: Joined) -> None:
        schema, self._outputs = joined.encoder.schema, joined.encoder.num_classes
        self._kept = len(schema.columns) - len(schema.features)
        # a damaged page is an error then, and no other number
        self._file = pq.ParquetFile(path, page_checksum_verification=True)
        # not the decisions behind the probabilities, which the joined model makes anew
        self._batches = self._file.iter_batches(
            batch_size=_ROWS, columns=self._file.schema_arrow.names[: self._kept + self._outputs]
        )
        self._left = next(self._batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, count: int) -> tuple[pa.Table, NDArray[np.float32]]:
        """Return the next rows and their probabilities; there must be as many."""
        parts = [self._left.slice(0, count)]
        while missing := count - sum(map(len, parts)):
            self._left = next(self._batches)
            parts.append(self._left.slice(0, missing))
        self._left = self._left.slice(len(parts[-1]))
        table = pa.Table.from_batches(parts)
        probs = np.stack([column.to_numpy() for column in table.columns[self._kept :]], axis=1)
        return table.select(range(self._kept)), probs


def _free(name: str, batch: pa.RecordBatch) -> str:
    # a column of the table may have this name
    while name in batch.schema.names:
        name += "_"
    return name
