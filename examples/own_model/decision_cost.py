"""A metric that lives outside tabstep: what wrong decisions cost, the missed positive more than the false alarm."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class DecisionCost(Metric):
    """The mean cost of a row at a threshold of 0.5, for a binary task.

    Less is better, and the class says so: the key of its scores is ``decision_cost_loss``.

    >>> metric = DecisionCost(missed=10.0)
    >>> metric.update(torch.tensor([0.9, 0.6, 0.2, 0.1]), torch.tensor([1, 0, 1, 0]))
    >>> metric.compute().item()  # (1 + 10) / 4
    2.75
    """

    higher_is_better = False
    full_state_update = False
    total: Tensor
    rows: Tensor

    def __init__(self, *, missed: float, false_alarm: float = 1.0) -> None:
        super().__init__()
        self.missed, self.false_alarm = missed, false_alarm
        # Sums, not means: ranks and batches of different sizes add up exactly.
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, y: Tensor) -> None:
        """Take probabilities of the positive class ``(B,)`` and labels ``(B,)`` of 0 and 1."""
        chosen, positive = probs > 0.5, y == 1
        self.total += self.missed * (positive & ~chosen).sum() + self.false_alarm * (chosen & ~positive).sum()
        self.rows += len(y)

    def compute(self) -> Tensor:
        return self.total / self.rows
