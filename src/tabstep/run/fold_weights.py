"""Weights of the rows of a cross-validation: read once, and checked for every fold before the first one trains."""

from __future__ import annotations

import numpy as np

from tabstep.encoding.row_weights import check_total, row_weights
from tabstep.errors import UserError
from tabstep.run.prepare import Opened
from tabstep.schema import Split
from tabstep.tables.source import ParquetSource


def fold_weights(opened: Opened, numbers: np.ndarray, *, in_time: bool) -> dict[Split, np.ndarray]:
    """Return the weights of the rows of train and test, ``(n,)`` float32 with a mean of 1; nothing without a column.

    Args:
        numbers: of each row of train, the fold that it is val of.

    Raises:
        UserError: a weight is wrong, or those of a fold's val or train are all zero.
    """
    name = opened.schema.weight
    if name is None:
        return {}
    weights = {split: _weights(source, name) for split, source in opened.sources.items()}
    for fold in range(1, int(numbers.max()) + 1):
        # in time, part 0 is before all folds: train of each, val of none
        parts = {"val": numbers == fold, "train": numbers < fold if in_time else numbers != fold}
        for part, rows in parts.items():
            if not weights["train"][rows].any():
                raise UserError(
                    f"data.folds: every weight in column {name!r} is zero in {part} of fold {fold}: set "
                    "fewer folds, or schema.weight=null"
                )
    return weights


def _weights(source: ParquetSource, name: str) -> np.ndarray:
    parts, first = [np.zeros(0)], 0
    for batch in source.batches([name]):
        parts.append(row_weights(batch, name, first_row=first, where=source.where))
        first += batch.num_rows
    given = np.concatenate(parts)
    check_total(float(given.sum()), name, where=source.where)
    normal: np.ndarray = (given / given.mean()).astype(np.float32)
    return normal
