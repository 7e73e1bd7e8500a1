"""Keys of the group ``metrics``, and the scores that other keys name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tabstep.option_types import Doc
from tabstep.registry import METRICS, PluginSettings

Metric = Literal[
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_f1",
    "val_auroc",
    "val_average_precision",
    "val_log_loss",
]
Monitor = Literal[Metric, "val_calibrated_log_loss"]


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """What is measured besides loss, accuracy, F1, AUROC, average precision and log-loss."""

    extra: Annotated[
        list[Annotated[PluginSettings, METRICS]], Doc("metrics of torchmetrics or other packages: name and options")
    ] = field(default_factory=list)
