"""The scores of the baselines beside those of a run: fitted on train, scored on val and test like its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tabstep.baselines.linear import fit_logistic_regression, fit_majority
from tabstep.baselines.trees import Forward, TreeName, fit_trees
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.models.linear import LinearModel
from tabstep.schema import Split, Task

MAJORITY, LINEAR = "majority", "logistic_regression"
LEVEL = 5e-4
"""A difference that four digits do not show is none."""
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
    report: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
    objective: str,
    errors: Mapping[str, float] | None = None,
) -> str | None:
    """Return a warning where a run's model is worse on val or test than logistic regression, else None.

    By its objective or by the log-loss: a model may rank as well and still state worse probabilities.

    Args:
        errors: standard errors of the differences between the scores, which a difference must be larger than.
    """
    for key, loss in losses_to_linear(report, baselines, objective).items():
        if loss > (errors or {}).get(key, 0.0):
            ours, theirs = report[key], baselines[LINEAR][key]
            return (
                f"warning: worse than logistic regression on the same columns: {key} {ours:.4f}, not {theirs:.4f}.\n"
                "  Where val_loss still fell at the end: raise callbacks.early_stopping.patience, trainer.max_epochs;\n"
                "  where it rose early: lower optimizer.lr, or take a smaller model;\n"
                "  where the label is nearly linear in the columns: model.linear=true"
            )
    return None


def losses_to_linear(
    report: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], objective: str
) -> dict[str, float]:
    """Return by how much a run's objective and log-loss are worse than logistic regression's, where they are.

    >>> losses_to_linear({"val_auroc": 0.75, "val_log_loss": 0.3}, {LINEAR: {"val_auroc": 1.0}}, "val_auroc")
    {'val_auroc': 0.25}
    """
    linear = baselines.get(LINEAR, {})
    metric = objective.partition("_")[2]
    found = {}
    for key in dict.fromkeys(f"{split}_{name}" for split in ("val", "test") for name in (metric, "log_loss")):
        ours, theirs = report.get(key), linear.get(key)
        if ours is not None and theirs is not None and (gain := _gain(key, ours, theirs)) < -LEVEL:
            found[key] = -gain
    return found


def _gain(key: str, ours: float, theirs: float) -> float:
    return theirs - ours if key.endswith("loss") else ours - theirs


def _eager(model: LinearModel) -> Callable[[Tensor, Tensor], Tensor]:
    @torch.no_grad()
    def forward(x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = model(x_num, x_cat)
        return logits

    return forward


def _tensors(forward: Forward) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x_num, x_cat: torch.from_numpy(forward(x_num.numpy(), x_cat.numpy())).float()
