"""Logistic regression and the majority: the scores that a trained model has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabstep.encoding.encoded_table import EncodedTable
from tabstep.schema import Task

MAX_ROWS = 200_000
"""Rows that are fitted on, drawn from the train split: more change the scores of so few weights by less than noise."""
MAX_STEPS = 200


class LinearModel(nn.Module):
    """Logits that are linear in the numbers and in the indicators of the categories' codes.

    **Shape** ``x_num`` (B, num_numeric) and ``x_cat`` (B, len(cardinalities)) to logits (B, num_outputs).

    >>> LinearModel(num_numeric=2, cardinalities=(3,), num_outputs=1)(torch.zeros(4, 2), torch.zeros(4, 1).int()).shape
    torch.Size([4, 1])
    """

    offsets: Tensor

    def __init__(self, *, num_numeric: int, cardinalities: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.numeric = nn.Parameter(torch.zeros(num_numeric, num_outputs))
        self.codes = nn.Parameter(torch.zeros(sum(cardinalities), num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        starts = np.cumsum([0, *cardinalities])[:-1].astype(np.int64)
        self.register_buffer("offsets", torch.from_numpy(starts), persistent=False)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits = x_num.to(self.numeric.dtype) @ self.numeric + self.bias
        if x_cat.shape[1]:
            logits = logits + F.embedding_bag(x_cat.long() + self.offsets, self.codes, mode="sum")
        return logits


def fit_majority(table: EncodedTable, task: Task, *, cardinalities: Sequence[int], num_outputs: int) -> LinearModel:
    """Return the model that gives every row the shares of the classes in ``table``."""
    model = _new_model(table, cardinalities, num_outputs)
    y = torch.from_numpy(table.y)
    if task == "multiclass":
        shares = torch.bincount(y, minlength=num_outputs) / len(y)
        bias = shares.clamp_min(1e-12).log()
    else:
        bias = torch.logit(y.double().mean(dim=0).reshape(num_outputs), eps=1e-12)
    with torch.no_grad():
        model.bias.copy_(bias)
    return model


def fit_logistic_regression(
    table: EncodedTable, task: Task, *, cardinalities: Sequence[int], num_outputs: int
) -> LinearModel:
    """Fit by L-BFGS on at most ``MAX_ROWS`` rows, with the penalty of scikit-learn's default (``C=1``).

    That is half the sum of the squared weights beside the sum of the rows' losses; the bias goes free.
    """
    model = _new_model(table, cardinalities, num_outputs).double()
    rows = _sample(table.num_rows)
    x_num, x_cat = torch.from_numpy(table.x_num[rows]).double(), torch.from_numpy(table.x_cat[rows])
    y = torch.from_numpy(table.y[rows])
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=MAX_STEPS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        penalty = 0.5 * (model.numeric.square().sum() + model.codes.square().sum())
        loss = (_loss_sum(model(x_num, x_cat), y, task) + penalty) / len(y)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return model.float()


def _new_model(table: EncodedTable, cardinalities: Sequence[int], num_outputs: int) -> LinearModel:
    return LinearModel(num_numeric=table.x_num.shape[1], cardinalities=cardinalities, num_outputs=num_outputs)


def _sample(num_rows: int) -> np.ndarray | slice:
    if num_rows <= MAX_ROWS:
        return slice(None)
    drawn = np.random.Generator(np.random.PCG64(0)).choice(num_rows, MAX_ROWS, replace=False, shuffle=False)
    return np.sort(drawn)  # in the order of the file: pages are read once


def _loss_sum(logits: Tensor, y: Tensor, task: Task) -> Tensor:
    if task == "multiclass":
        return F.cross_entropy(logits, y, reduction="sum")
    return F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype).view_as(logits), reduction="sum")
