"""Keys of the group ``scheduler``: a class for each schedule of the learning rate, chosen by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tabstep.option_types import Count, Doc, Fraction, Index, NonNegative, OpenFraction, Range, Ratio


@dataclass(frozen=True, kw_only=True)
class ConstantSettings:
    """The learning rate stays as it is."""

    name: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class CosineSettings:
    """Linear warm-up, then half a cosine down, over trainer.max_epochs."""

    name: Literal["cosine"] = "cosine"
    warmup: Annotated[Fraction, Doc("share of the steps that warm up")] = 0.05
    final_ratio: Annotated[float, Range(ge=0, le=1), Doc("last learning rate, as a share of lr")] = 0.0


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Multiplies the learning rate by gamma every few epochs."""

    name: Literal["step"] = "step"
    step_epochs: Annotated[Count, Doc("epochs between two drops")] = 10
    gamma: Ratio = 0.1


@dataclass(frozen=True, kw_only=True)
class OneCycleSettings:
    """One cycle over trainer.max_epochs: up to lr, then down below the start."""

    name: Literal["one_cycle"] = "one_cycle"
    warmup: Annotated[OpenFraction, Doc("share of the steps that go up")] = 0.3
    start_ratio: Annotated[Ratio, Doc("first learning rate, as a share of lr")] = 0.04
    final_ratio: Annotated[Ratio, Doc("last learning rate, as a share of lr")] = 0.0001


@dataclass(frozen=True, kw_only=True)
class PlateauSettings:
    """Lowers the learning rate when the monitor stops falling."""

    name: Literal["plateau"] = "plateau"
    monitor: Literal["train_loss", "val_loss"] = "val_loss"
    factor: Annotated[OpenFraction, Doc("what the learning rate is multiplied by")] = 0.3
    patience: Annotated[Index, Doc("epochs without progress before that")] = 2
    min_lr: NonNegative = 1e-06


SchedulerSettings = ConstantSettings | CosineSettings | StepSettings | OneCycleSettings | PlateauSettings
