"""Keys of the group ``optimizer``: a class for each optimizer, chosen by its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tabstep.option_types import Doc, Fraction, NonNegative, Positive


@dataclass(frozen=True, kw_only=True)
class MuonSettings:
    """Muon for the hidden matrices, AdamW for embeddings, output layer and vectors."""

    name: Literal["muon"] = "muon"
    lr: Annotated[Positive, Doc("highest learning rate of AdamW's part")] = 0.001
    hidden_lr: Annotated[Positive, Doc("highest learning rate of Muon's part")] = 0.005
    weight_decay: NonNegative = 0.0001
    hidden_weight_decay: Annotated[
        Literal["auto"] | NonNegative,
        Doc("weight decay of Muon's part; auto: 0.0001, or up to 0.3 where rows are many"),
    ] = "auto"
    betas: list[Fraction] = field(default_factory=lambda: [0.9, 0.999])
    momentum: Annotated[Fraction, Doc("of Muon")] = 0.95


@dataclass(frozen=True, kw_only=True)
class AdamWSettings:
    """AdamW."""

    name: Literal["adamw"] = "adamw"
    lr: Annotated[Positive, Doc("highest learning rate of the schedule")] = 0.001
    weight_decay: NonNegative = 0.0001
    betas: list[Fraction] = field(default_factory=lambda: [0.9, 0.999])


@dataclass(frozen=True, kw_only=True)
class SGDSettings:
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: Annotated[Positive, Doc("highest learning rate of the schedule")] = 0.1
    weight_decay: NonNegative = 0.0001
    momentum: Fraction = 0.9
    nesterov: bool = True


OptimizerSettings = MuonSettings | AdamWSettings | SGDSettings
