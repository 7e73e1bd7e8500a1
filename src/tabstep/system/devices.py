"""Accelerator, devices and precision, resolved for this machine before anything is built."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from tabstep.errors import UserError

Precision = Literal["16-mixed", "bf16-mixed", "32-true"]

FEW_ROWS = 256
"""Rows of a step's products below which the casts cost what the products gain. Measured with AMX: 1.2 of the time at 32
and 64 rows, 1.05 at 128, 0.8 from 256 on; with AVX512-BF16 1.05, 1.05, .95 and .9, and 8 members of 32 rows .8."""
WORTH = 1.5
"""Gain of a product from which on a whole step gains too: the rest of it, and the casts, are not faster."""


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
    accelerator: Literal["auto", "cpu", "gpu"],
    devices: Literal["auto"] | int,
    precision: Precision,
    *,
    rows: int | None = None,
    gain: Callable[[], float] | None = None,
) -> Machine:
    """Fit what was asked for to what is there.

    ``bf16-mixed`` is kept wherever it was asked for by that name. ``16-mixed``, the default, has no arithmetic on a
    CPU: it becomes ``bf16-mixed`` where the processor multiplies such matrices faster and the products of a step have
    ``rows`` enough (None: they have), else ``32-true``. ``gain`` takes the place of ``bf16_gain``, as what was measured
    before.

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
    if precision == "32-true" or chosen == "cuda" or (chosen == "cpu" and precision == "bf16-mixed"):
        return Machine(accelerator=chosen, devices=count, precision=precision)
    if chosen == "mps":
        note = f"precision: {precision} becomes 32-true: on MPS mixed precision costs time and gains nothing"
        return Machine(accelerator=chosen, devices=count, precision="32-true", notes=(note,))
    resolved, why = _on_cpu(rows, gain or bf16_gain)
    note = f"precision: {precision} becomes {resolved}: {why}"
    return Machine(accelerator=chosen, devices=count, precision=resolved, notes=(note,))


def _on_cpu(rows: int | None, measure: Callable[[], float]) -> tuple[Literal["bf16-mixed", "32-true"], str]:
    """Return what ``16-mixed`` is on this CPU, and why."""
    if not has_bf16():
        return "32-true", "this CPU has no arithmetic of 16 bits"
    if rows is not None and rows < FEW_ROWS:
        return "32-true", f"a step of {rows} rows gains nothing from bfloat16, one of {FEW_ROWS} does"
    gain = measure()
    measured = f"measured here, products of matrices in bfloat16 take {1 / gain:.2f} of the time"
    return ("bf16-mixed" if gain >= WORTH else "32-true"), measured


def has_bf16() -> bool:
    """Whether the processor has instructions for products of bfloat16 matrices (AMX, AVX512-BF16)."""
    # torch tells it under private names alone
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


@lru_cache(maxsize=1)
def bf16_gain() -> float:
    """Return how many times faster a product of hidden layer's size is in bfloat16, casts included; takes 0.1 s."""
    batch, weight = torch.ones(1_024, 512), torch.ones(512, 512)

    def in_single() -> None:
        batch @ weight

    def in_half() -> None:
        batch.bfloat16() @ weight.bfloat16()

    return _seconds(in_single) / _seconds(in_half)


def _seconds(product: Callable[[], None]) -> float:
    """Return the least of some times: other programs only ever add to it."""
    taken = []
    for _ in range(9):
        started = time.perf_counter()
        product()
        taken.append(time.perf_counter() - started)
    return min(taken)
