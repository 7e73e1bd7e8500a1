"""Weights of rows: how much each counts in the loss, the scores and the calibration."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from tabstep.errors import UserError
from tabstep.tables.record_batch import numbers

MOST: Final = 1e38
"""Of a weight: what no single number of 32 bits holds is a mistake, and sums of these stay in range."""


def row_weights(batch: pa.RecordBatch, name: str, *, first_row: int, where: str) -> np.ndarray:
    """Return the weights of a batch, ``(n,)`` float64.

    Raises:
        UserError: a weight is null, negative, or no finite number in float32.

    >>> row_weights(pa.RecordBatch.from_pydict({"w": [2, 0]}), "w", first_row=0, where="data.train").tolist()
    [2.0, 0.0]
    """
    weights = numbers(batch, name)
    wrong = ~((weights >= 0) & (weights <= MOST))
    if wrong.any():
        if batch.column(name).null_count == len(batch):
            raise UserError(
                f"{where}: column {name!r} holds no weights: rows {first_row} to {first_row + len(batch) - 1} are null"
                ": fill it, or set schema.weight=null"
            )
        row = int(wrong.argmax())
        raise UserError(
            f"{where}: column {name!r} has the weight {batch.column(name)[row].as_py()} in row {first_row + row}: "
            "weights are finite numbers of 0 and above; correct it, or set schema.weight=null"
        )
    return weights


def check_total(total: float, name: str, *, where: str) -> None:
    """Raise ``UserError`` where no row of a table counts."""
    if total == 0:
        raise UserError(f"{where}: every weight in column {name!r} is zero: at least one row must count")
