"""Logistic regression and the majority: the scores that a trained model has to beat."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tabstep.encoding.encoded_table import EncodedTable
from tabstep.encoding.stored_rows import RowArrays
from tabstep.models.linear import LinearModel
from tabstep.schema import Task

MAX_ROWS = 200_000
"""Rows that are fitted on, drawn from the train split: more change the scores of so few weights by less than noise."""
PART_ROWS = 2**20
MAX_STEPS = 200
START_ROWS = 20_000
START_PENALTIES = (100.0, 10.0, 1.0)


def fit_majority(table: EncodedTable, task: Task, *, cardinalities: Sequence[int], num_outputs: int) -> LinearModel:
    """Return the model that gives every row the shares of the classes in ``table``."""
    model = _new_model(table, cardinalities, num_outputs)
    total, counts = torch.zeros((), dtype=torch.float64), torch.zeros(num_outputs, dtype=torch.float64)
    for part in table.parts(PART_ROWS):
        y, weight = torch.from_numpy(part.y), _weights(part)
        total += weight.sum()
        if task == "multiclass":
            counts += torch.bincount(y, weight, minlength=num_outputs)
        else:
            counts += (weight @ y.double()).reshape(num_outputs)
    if task == "multiclass":
        shares = (counts / counts.sum()).float()
        bias = shares.clamp_min(1e-12).log()
    else:
        bias = torch.logit(counts / total, eps=1e-12)
    with torch.no_grad():
        model.bias.copy_(bias)
    return model


def fit_logistic_regression(
    table: EncodedTable, task: Task, *, cardinalities: Sequence[int], num_outputs: int
) -> LinearModel:
    """Fit by L-BFGS on at most ``MAX_ROWS`` rows, with the penalty of scikit-learn's default (``C=1``).

    That is half the sum of the squared weights beside the sum of the rows' losses; the bias goes free.
    """
    model = _new_model(table, cardinalities, num_outputs)
    return _fit(model, _sample(table, cardinalities, MAX_ROWS), task, penalty=1.0).float()


def fit_start(
    train: EncodedTable, val: EncodedTable, task: Task, *, cardinalities: Sequence[int], num_outputs: int
) -> LinearModel:
    """Return the linear model that a network begins as: of some penalties, that with the lowest log-loss on val.

    It is fitted on at most ``START_ROWS`` rows: of many, the network finds what is linear by itself.
    """
    model = _new_model(train, cardinalities, num_outputs)
    rows, held_out = _sample(train, cardinalities, START_ROWS), _sample(val, cardinalities, START_ROWS)
    best, lowest = model, math.inf
    for penalty in START_PENALTIES:  # from strong to weak: each fit begins where the last one ended
        model = _fit(model, rows, task, penalty=penalty)
        with torch.no_grad():
            cost = float(_loss_sum(_logits(model, held_out), held_out, task))
        if cost < lowest:
            # a copy: the next fit goes on in the same weights
            best, lowest = copy.deepcopy(model), cost
    return best.float()


class _Rows(NamedTuple):
    """``x_num`` (N, n) float64, ``codes`` (c, N) among those of all columns, ``y`` as in the table.

    ``weight`` (N, 1) float64: 1 where rows have none.
    """

    x_num: Tensor
    codes: Tensor
    y: Tensor
    weight: Tensor


def _fit(model: LinearModel, rows: _Rows, task: Task, *, penalty: float) -> LinearModel:
    """Fit ``model`` in float64, from the weights that it has."""
    model, count = model.double(), len(rows.y)
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=MAX_STEPS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )
    expected = _expected(rows.y, len(model.bias), task)

    @torch.no_grad()
    def closure() -> float:
        """Return the loss a row and set the gradients; by hand, a fifth of the time that autograd takes for codes."""
        logits = _logits(model, rows)
        # the gradient of cross-entropy by logits
        errors = (logits.softmax(dim=1) if task == "multiclass" else logits.sigmoid()) - expected
        errors *= rows.weight / count
        model.numeric.grad = rows.x_num.T @ errors + penalty / count * model.numeric
        model.codes.grad = _sums_by_code(rows.codes, errors, len(model.codes)) + penalty / count * model.codes
        model.bias.grad = errors.sum(dim=0)
        squares = model.numeric.square().sum() + model.codes.square().sum()
        return float((_loss_sum(logits, rows, task) + 0.5 * penalty * squares) / count)

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return model


def _logits(model: LinearModel, rows: _Rows) -> Tensor:
    logits = torch.addmm(model.bias, rows.x_num, model.numeric)
    for codes in rows.codes:  # not at once: that would be rows x columns x outputs
        logits += model.codes[codes]
    return logits


def _expected(y: Tensor, num_outputs: int, task: Task) -> Tensor:
    """Return the probabilities that would be right, ``(N, num_outputs)``."""
    return F.one_hot(y.long(), num_outputs).double() if task == "multiclass" else y.double().view(-1, num_outputs)


def _sums_by_code(codes: Tensor, errors: Tensor, size: int) -> Tensor:
    """Return the sum of the errors of the rows that have a code, ``(size, num_outputs)``."""
    flat, columns = codes.flatten(), len(codes)
    by_output = [torch.bincount(flat, error.repeat(columns), minlength=size) for error in errors.T]
    return torch.stack(by_output, dim=1)


def _new_model(table: EncodedTable, cardinalities: Sequence[int], num_outputs: int) -> LinearModel:
    return LinearModel(table.x_num.shape[1], cardinalities, num_outputs)


def _sample(table: EncodedTable, cardinalities: Sequence[int], limit: int) -> _Rows:
    rows = table.part(0, limit)
    if table.num_rows > limit:
        drawn = np.random.Generator(np.random.PCG64(0)).choice(table.num_rows, limit, replace=False, shuffle=False)
        rows = table.take(np.sort(drawn))  # in the order of the file: pages are read once
    starts = np.cumsum([0, *cardinalities])[:-1]
    codes = rows.x_cat.T.astype(np.int64) + starts[:, None]
    x_num = torch.from_numpy(rows.x_num).double()
    return _Rows(x_num, torch.from_numpy(codes), torch.from_numpy(rows.y), _weights(rows).unsqueeze(1))


def _weights(rows: RowArrays) -> Tensor:
    """Return the weights of some rows, ``(n,)`` float64: 1 where they have none."""
    if rows.weight is None:
        return torch.ones(len(rows.y), dtype=torch.float64)
    return torch.from_numpy(rows.weight).double()


def _loss_sum(logits: Tensor, rows: _Rows, task: Task) -> Tensor:
    if task == "multiclass":
        losses = F.cross_entropy(logits, rows.y, reduction="none").unsqueeze(1)
    else:
        target = rows.y.to(logits.dtype).view_as(logits)
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (rows.weight * losses).sum()
