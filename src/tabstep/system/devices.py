"""Accelerator, devices and precision, resolved for this machine before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from tabstep.errors import UserError

Precision = Literal["16-mixed", "bf16-mixed", "32-true"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how a run computes; ``notes`` says in one line each what differs from what was asked for."""

    accelerator: Literal["cpu", "cuda", "mps"]
    devices: int
    precision: Precision
    notes: tuple[str, ...] = ()

    @property
    def scales_loss(self) -> bool:
        """Whether gradients pass a GradScaler, which needs to see them before the optimizer: no fused step then."""
        return self.precision == "16-mixed"


def resolve_machine(
    accelerator: Literal["auto", "cpu", "gpu"], devices: Literal["auto"] | int, precision: Precision
) -> Machine:
    """Fit what was asked for to what is there.

    A CPU gains nothing from 16-bit arithmetic on models of this size, so mixed precision becomes ``32-true`` there.

    Raises:
        UserError: a GPU, or more of them than there are, was asked for by name.
    """
    cuda, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if accelerator == "gpu" and not (cuda or mps):
        raise UserError(
            "trainer.accelerator: gpu was asked for but torch sees none: set trainer.accelerator=auto or cpu"
        )
    chosen: Literal["cpu", "cuda", "mps"] = "cpu"
    if accelerator != "cpu" and (cuda or mps):
        chosen = "cuda" if cuda else "mps"
    count = (cuda if chosen == "cuda" else 1) if devices == "auto" else devices
    if chosen == "cuda" and count > cuda:
        raise UserError(f"trainer.devices: {count} were asked for but torch sees {cuda}: set trainer.devices={cuda}")
    if precision == "32-true" or chosen == "cuda":
        return Machine(accelerator=chosen, devices=count, precision=precision)
    note = f"precision: {precision} becomes 32-true: on {chosen.upper()} mixed precision costs time and gains nothing"
    return Machine(accelerator=chosen, devices=count, precision="32-true", notes=(note,))
