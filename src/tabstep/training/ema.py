"""An exponential moving average (EMA) of a model's weights, which generalizes better than the last step's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """A copy of a model that follows it: ``average += (1 - decay) * (weights - average)`` after each step.

    Early on the decay is ``(1 + n) / (10 + n)`` after ``n`` updates where that is smaller, so that the initial weights
    are soon forgotten (as in TensorFlow's ``ExponentialMovingAverage``). Buffers are copied. torch's ``AveragedModel``
    counts on the device, which makes each step wait for a GPU; the count comes from outside here.

    >>> model = nn.Linear(1, 1)
    >>> average = WeightAverage(model, decay=0.9)
    >>> _ = nn.init.constant_(model.bias, 1.0), nn.init.constant_(average.module.bias, 0.0)
    >>> average.update(model, 0)
    >>> round(average.module.bias.item(), 4)
    0.9
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Follow ``model`` after ``num_updates`` earlier updates."""
        decay = min(self._decay, (1 + num_updates) / (10 + num_updates))
        if self._pairs is None:  # to walk through all modules at each step would take longer than the average itself
            self._pairs = list(self.module.parameters()), list(model.parameters())
        torch._foreach_lerp_(*self._pairs, 1.0 - decay)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
