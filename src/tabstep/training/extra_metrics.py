"""Metrics that a run adds to its table: torchmetrics' by name, or those of another package.

A key says which way is better, as those of ours do: the names of metrics that are minimized end in ``loss``, ``error``
or ``distance``, so that whoever reads a history alone can tell the best epoch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tabstep.errors import UserError
from tabstep.registry import METRICS, PluginSettings, metric_key
from tabstep.schema import Task
from tabstep.training.metrics import check_update
from tabstep.training.stopping import is_minimized

_OURS = ("loss", "accuracy", "f1", "log_loss", "auroc", "average_precision", "ece")


class ExtraScores(Metric):
    """One metric of another package under its key, or under a key a class where it gives one number a class.

    It is nan after a NaN probability: torchmetrics takes such a row for one of the first class.

    >>> from torchmetrics.classification import BinaryRecall
    >>> scores = ExtraScores("recall", BinaryRecall(), "binary", ["no", "yes"])
    >>> scores.update(torch.tensor([0.2, 0.7]), torch.tensor([1, 1]))
    >>> scores.compute()
    {'recall': tensor(0.5000)}
    """

    full_state_update = False
    nans: Tensor

    def __init__(self, key: str, metric: Metric, task: Task, classes: Sequence[str]) -> None:
        super().__init__()
        self.key, self.metric, self.task, self.classes = key, metric, task, tuple(classes)
        self.add_state("nans", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, y: Tensor) -> None:
        check_update(probs, y, self.task)
        self.nans += probs.isnan().sum()
        # Zeros in the place of NaN: some of torchmetrics' classes raise at them, which would hide our own message.
        self.metric.update(probs.nan_to_num(0.0), y.long())

    def compute(self) -> dict[str, Tensor]:
        value = torch.as_tensor(self.metric.compute())
        if self.nans > 0:
            value = torch.full_like(value, torch.nan, dtype=torch.float64)
        if value.ndim == 0:
            return {self.key: value}
        if tuple(value.shape) != (len(self.classes),):
            raise ValueError(f"it gives {tuple(value.shape)}: one number is needed, or one for each class")
        return {f"{self.key}_{name}": each for name, each in zip(self.classes, value, strict=True)}

    def reset(self) -> None:
        # torchmetrics resets the states of this class alone, and not those of a metric within
        super().reset()
        self.metric.reset()

    def persistent(self, mode: bool = False) -> None:
        super().persistent(mode)
        self.metric.persistent(mode)


def build_extra_metrics(
    parts: Sequence[PluginSettings], task: Task, num_outputs: int, classes: Sequence[str]
) -> dict[str, Metric]:
    """Build the metrics of ``metrics.extra`` by their keys and let each score two rows, before hours are spent.

    Args:
        classes: the classes of a multiclass task or the labels of a multilabel one, in their order.

    Raises:
        UserError: an option has a wrong value, the metric is not of this task, or two of them have one key.
    """
    made: dict[str, Metric] = {}
    for place, part in enumerate(parts):
        path = f"{METRICS.key}[{place}]"
        metric = METRICS.make(_filled(part, task, num_outputs), path=path)
        _check_task(metric, task, f"{path}: {part.name}")
        key = _key(part, metric, path)
        if key in made or key in _OURS:
            raise UserError(f"{path}.name: {key} stands twice in the table of scores: leave one out")
        made[key] = ExtraScores(key, metric, task, classes)
        _try(made[key], task, num_outputs, f"{path}: {part.name}")
    return made


def score_names(metrics: Mapping[str, Metric], classes: Sequence[str]) -> list[str]:
    """Return the keys that metrics may give: a class each where one number is not known to be all."""
    return [*metrics, *(f"{key}_{name}" for key in metrics for name in classes)]


def _filled(part: PluginSettings, task: Task, num_outputs: int) -> PluginSettings:
    # a binary task has one output for its two classes
    facts: dict[str, Any] = {"task": task, "num_classes": max(2, num_outputs), "num_labels": num_outputs}
    wanted = METRICS.arguments(METRICS.load(part.name))
    own = {key: value for key, value in facts.items() if key in wanted}
    return PluginSettings(name=part.name, options={**own, **part.options})


def _key(part: PluginSettings, metric: Metric, path: str) -> str:
    key = metric_key(part.name)
    higher = metric.higher_is_better
    if higher is False and not is_minimized(key):
        return f"{key}_loss"
    if higher and is_minimized(key):
        raise UserError(f"{path}.name: {key} reads as if less were better, but higher_is_better is true: rename it")
    return key


def _check_task(metric: Metric, task: Task, place: str) -> None:
    """Refuse torchmetrics' classes of another task: some take probabilities of one for classes, and give a number."""
    name = type(metric).__name__
    other = next((each for each in ("Binary", "Multiclass", "Multilabel") if name.startswith(each)), "")
    if type(metric).__module__.startswith("torchmetrics.") and other and other.lower() != task:
        raise UserError(f"{place} is for a {other.lower()} task, and this one is {task}")


def _try(metric: Metric, task: Task, num_outputs: int, place: str) -> None:
    """Score one row of each class."""
    rows = max(2, num_outputs)
    y = torch.arange(rows) if task != "multilabel" else torch.eye(rows, num_outputs, dtype=torch.int64)
    probs = torch.tensor([0.25, 0.75]) if task == "binary" else torch.softmax(torch.eye(rows, num_outputs), dim=1)
    try:
        with warnings.catch_warnings():
            # what it warns of are these two rows
            warnings.simplefilter("ignore")
            metric.update(probs, y)
            metric.compute()
    except Exception as error:  # somebody else's metric has its own
        raise UserError(f"{place} does not fit a {task} task: {' '.join(str(error).split())}") from error
    metric.reset()
