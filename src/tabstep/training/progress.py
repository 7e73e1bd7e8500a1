"""What a classifier is told of its target and its steps, and where its run is: epoch, batch, step, history."""

from __future__ import annotations

from dataclasses import dataclass, field

from tabstep.schema import Task

Row = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is learned: the task, the width of the model's output and the names of the columns of ``x_num``."""

    task: Task
    num_outputs: int
    input_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How a step is taken: clipping, guards and averaging.

    ``plateau_monitor`` is the key that a ReduceLROnPlateau follows. ``max_epochs`` is used for the estimate of the
    time that is left alone, which is not known where it is None.
    """

    seed: int
    batch_size: int
    max_epochs: int | None = None
    gradient_clip_val: float | None = None
    fail_above_grad_norm: float | None = None
    ema_decay: float | None = None
    plateau_monitor: str = "val_loss"


@dataclass
class Progress:
    """Where a run is: ``batch`` batches of ``epoch`` (0-based) are done, ``step`` optimizer steps were tried."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)
    stopped: str | None = None
    """Why a callback of another package has ended the run, which no rule on the history would say again."""
