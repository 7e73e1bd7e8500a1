"""The scores of the baselines beside those of a run: fitted on train, scored on val and test like its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tabstep.baselines.linear import LinearModel, fit_logistic_regression, fit_majority
from tabstep.baselines.trees import Forward, TreeName, fit_trees
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.schema import Split, Task

MAJORITY, LINEAR = "majority", "logistic_regression"
Score = Callable[[Callable[[Tensor, Tensor], Tensor], EncodedTable], Mapping[str, float]]
"""Scores of a function ``(x_num, x_cat) -> logits`` on one split."""


def baseline_scores(
    tables: Mapping[Split, EncodedTable],
    task: Task,
    *,
    cardinalities: Sequence[int],
    num_outputs: int,
    trees: Sequence[TreeName],
    score: Score,
) -> dict[str, dict[str, float]]:
    """Return the scores ``val_*`` and ``test_*`` of each baseline: majority, logistic regression, trees."""
    train = tables["train"]
    linear = [
        fit(train, task, cardinalities=cardinalities, num_outputs=num_outputs)
        for fit in (fit_majority, fit_logistic_regression)
    ]
    models = dict(zip((MAJORITY, LINEAR), map(_eager, linear), strict=True))
    for name in trees:
        models[name] = _tensors(fit_trees(name, train, tables["val"], task, num_outputs=num_outputs))
    return {
        name: {
            f"{split}_{metric}": value
            for split in ("val", "test")
            if split in tables
            for metric, value in score(model, tables[split]).items()
        }
        for name, model in models.items()
    }


def below_linear(
    report: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], objective: str
) -> str | None:
    """Return a warning where a run's model is worse on val than logistic regression by its objective, else None.

    Losses are better when lower; a difference that four digits do not show is none.
    """
    key = objective if objective.startswith("val_") and objective != "val_loss" else "val_log_loss"
    ours, linear = report.get(key), baselines.get(LINEAR, {}).get(key)
    if ours is None or linear is None:
        return None
    gain = linear - ours if key.endswith("loss") else ours - linear
    if gain >= -5e-4 or not np.isfinite(gain):
        return None
    return (
        f"warning: this model is worse than logistic regression on the same columns: {key} {ours:.4f} against "
        f"{linear:.4f}. It has not learned what it could: train longer (callbacks.early_stopping.patience), "
        "lower optimizer.lr, or take a smaller model"
    )


def _eager(model: LinearModel) -> Callable[[Tensor, Tensor], Tensor]:
    @torch.no_grad()
    def forward(x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = model(x_num, x_cat)
        return logits

    return forward


def _tensors(forward: Forward) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x_num, x_cat: torch.from_numpy(forward(x_num.numpy(), x_cat.numpy())).float()
