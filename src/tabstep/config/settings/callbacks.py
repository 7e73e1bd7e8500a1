"""Keys of the group ``callbacks``: early stopping, checkpoints, averaged weights, progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tabstep.config.settings.metrics import Monitor
from tabstep.option_types import Count, Doc, Index, NonNegative, OpenFraction, Positive
from tabstep.registry import CALLBACKS, PluginSettings


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingSettings:
    """Ends the training when the monitor no longer improves."""

    monitor: Monitor | str = "val_calibrated_log_loss"
    patience: Annotated[
        Literal["auto"] | Count | None,
        Doc("epochs without progress; auto: 10, fewer where an epoch is many steps; null never stops early"),
    ] = "auto"
    patience_steps: Annotated[Index, Doc("optimizer steps that those epochs must have taken, or there are more")] = 300
    min_delta: Annotated[NonNegative, Doc("smallest change that is progress")] = 0.0


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Which epoch is exported, and when the resumable state is saved, besides the end of each epoch."""

    monitor: Annotated[Monitor | str, Doc("score by which the exported epoch is the best")] = "val_calibrated_log_loss"
    every_n_steps: Count | None = None
    every_seconds: Positive | None = 300
    keep: Annotated[Count, Doc("newest checkpoints that are kept")] = 2


@dataclass(frozen=True, kw_only=True)
class CallbackSettings:
    """What happens beside the training step."""

    early_stopping: EarlyStoppingSettings = field(default_factory=EarlyStoppingSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    ema_decay: Annotated[OpenFraction | None, Doc("decay of a moving average of the weights; null keeps none")] = 0.99
    fail_above_grad_norm: Annotated[Positive | None, Doc("gradient norm above which the run ends with an error")] = None
    progress: Annotated[Literal["auto", "bar", "lines", "none"], Doc("auto is a bar on a terminal, lines in a log")] = (
        "auto"
    )
    extra: Annotated[
        list[Annotated[PluginSettings, CALLBACKS]], Doc("Lightning callbacks of other packages: name and options")
    ] = field(default_factory=list)
