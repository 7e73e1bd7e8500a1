"""Learning rate schedules. All but ``plateau`` are a pure function of the number of optimizer steps taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from tabstep.errors import UserError, nearest
from tabstep.registry import SCHEDULERS, PluginSettings

Factor = Callable[[int], float]


def constant() -> Factor:
    """Return the factor 1 at each step.

    >>> constant()(1000)
    1.0
    """
    return lambda step: 1.0


def cosine(total_steps: int, *, warmup: float, final_ratio: float) -> Factor:
    """Rise linearly over the share ``warmup`` of the steps, then fall along half a cosine to ``final_ratio``.

    Loshchilov and Hutter 2017 (arXiv:1608.03983), equation 5, without restarts.

    >>> factor = cosine(10, warmup=0.2, final_ratio=0.0)
    >>> [round(factor(step), 2) for step in (0, 1, 2, 6, 10, 11)]
    [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            # not from 0, which would waste the first step
            return (step + 1) / rising
        return _fall((step - rising) / max(1, total_steps - rising), 1.0, final_ratio)

    return factor


def step_decay(steps_per_epoch: int, *, step_epochs: int, gamma: float) -> Factor:
    """Multiply by ``gamma`` after each ``step_epochs`` epochs, as ``torch.optim.lr_scheduler.StepLR``.

    >>> factor = step_decay(10, step_epochs=2, gamma=0.5)
    >>> [factor(step) for step in (0, 19, 20, 40)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return lambda step: gamma ** (step // (steps_per_epoch * step_epochs))


def one_cycle(total_steps: int, *, warmup: float, start_ratio: float, final_ratio: float) -> Factor:
    """Rise from ``start_ratio`` to 1 over the share ``warmup`` of the steps, then fall to ``final_ratio``, on cosines.

    Smith and Topin 2018 (arXiv:1708.07120), in the form of ``torch.optim.lr_scheduler.OneCycleLR``; momentum stays.

    >>> factor = one_cycle(11, warmup=0.5, start_ratio=0.1, final_ratio=0.0)
    >>> [round(factor(step), 2) for step in (0, 10, 11)]
    [0.1, 0.0, 0.0]
    """
    # as OneCycleLR counts: the last step of the rise is the peak
    peak = warmup * total_steps - 1.0

    def factor(step: int) -> float:
        if step < peak:
            return _fall(step / peak, start_ratio, 1.0)
        return _fall((step - peak) / max(1.0, total_steps - 1.0 - peak), 1.0, final_ratio)

    return factor


def build_scheduler(
    name: str, optimizer: Optimizer, *, max_epochs: int | None, steps_per_epoch: int, **options: Any
) -> LRScheduler:
    """Build ``none``, ``cosine``, ``step`` or ``one_cycle`` (step it once an optimizer step) or ``plateau``.

    ``plateau`` is a ``ReduceLROnPlateau``: step it once an epoch with the monitored loss. ``steps_per_epoch`` counts
    optimizer steps; ``cosine`` and ``one_cycle`` span ``max_epochs``, which None has none of. A scheduler's state is
    plain numbers. Any other name is one of the registry, with options of its own: it is stepped like ours, once an
    optimizer step, and a ``ReduceLROnPlateau`` once an epoch.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    >>> options = dict(max_epochs=2, steps_per_epoch=5, warmup=0.0, final_ratio=0.0)
    >>> build_scheduler("cosine", optimizer, **options).get_last_lr()
    [0.5]
    """
    if name == "plateau":
        # the classifier follows it, and gives the scheduler a number
        options.pop("monitor", None)
        return ReduceLROnPlateau(optimizer, mode="min", **options)
    factors: dict[str, Callable[[], Factor]] = {
        "none": lambda: constant(**options),
        "cosine": lambda: cosine(_total_steps(max_epochs, steps_per_epoch), **options),
        "step": lambda: step_decay(steps_per_epoch, **options),
        "one_cycle": lambda: one_cycle(_total_steps(max_epochs, steps_per_epoch), **options),
    }
    if name not in factors and SCHEDULERS.find(name) is not None:
        built: LRScheduler = SCHEDULERS.make(PluginSettings(name=name, options=options), optimizer)
        return built
    if name not in factors:
        raise UserError(f"scheduler.name: no scheduler is called {name!r}; {nearest(name, [*factors, 'plateau'])}")
    return LambdaLR(optimizer, factors[name]())


def _total_steps(max_epochs: int | None, steps_per_epoch: int) -> int:
    if max_epochs is None:
        raise ValueError("a schedule that spans a run needs trainer.max_epochs")
    return max_epochs * steps_per_epoch


def _fall(done: float, start: float, end: float) -> float:
    """Go from ``start`` to ``end`` along half a cosine while ``done`` goes from 0 to 1."""
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * min(1.0, max(0.0, done))))
