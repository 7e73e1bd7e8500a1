"""Loss and metrics of one split over one epoch: over rows, the same on any number of ranks, saved in mid-epoch."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import MetricCollection

from tabstep.models.probabilities import probabilities
from tabstep.schema import Task

FLUSH_ROWS = 1 << 20
"""Rows kept before binned metrics take them in: metrics then run once in many batches, not in each."""


class EpochScores(nn.Module):
    """Collects logits and losses batch by batch and computes the metrics at the end.

    The loss is the mean over rows (weighted as the loss weighs them), summed in float64, never a mean over batches.

    Args:
        metrics: fed with float32 probabilities; its keys become the keys of the result.
        binned: the metrics have bounded states; rows are handed to them in pieces.
    """

    def __init__(self, metrics: MetricCollection, task: Task, *, binned: bool) -> None:
        super().__init__()
        self.metrics = metrics
        self.task = task
        self.binned = binned
        self.metrics.persistent(True)
        self._clear()

    def _clear(self) -> None:
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._totals: Tensor | None = None
        self._rows = 0

    def add(self, logits: Tensor, y: Tensor, loss_sum: Tensor, weight: Tensor) -> None:
        """Take one batch: logits ``(B, num_outputs)``, targets, and the sums of weighted losses and of weights."""
        self._logits.append(logits.detach())
        self._targets.append(y)
        self._losses.append(loss_sum.detach())
        self._weights.append(weight.detach())
        self._rows += len(y)
        if self.binned and self._rows >= FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Hand the collected rows to the metrics."""
        if self._logits:
            self.metrics.update(probabilities(torch.cat(self._logits).float(), self.task), torch.cat(self._targets))
        self._sum_losses()
        self._logits, self._targets, self._rows = [], [], 0

    def _sum_losses(self) -> Tensor:
        """Return (sum of losses, sum of weights), float64."""
        # Apple's GPU has no float64, so the sum is formed on the CPU there.
        parts = [torch.stack(values) if values else torch.zeros(0) for values in (self._losses, self._weights)]
        sums = torch.stack(
            [part.cpu().double().sum() if part.device.type == "mps" else part.double().sum() for part in parts]
        )
        self._totals = sums if self._totals is None else self._totals.to(sums) + sums
        self._losses, self._weights = [], []
        return self._totals

    def compute(self) -> dict[str, float]:
        """Return ``loss`` and the metrics over all ranks, then start anew. Collective: every rank must call it."""
        self._flush()
        totals = self._sum_losses()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(totals)
        loss_sum, weight = totals.tolist()
        values = {key: float(value) for key, value in self.metrics.compute().items()}
        self.metrics.reset()
        self._clear()
        return {"loss": loss_sum / weight if weight else math.nan, **values}

    def snapshot(self) -> dict[str, Any]:
        """Return the state of this rank as tensors and plain containers."""
        state: dict[str, Any] = {"totals": self._sum_losses().cpu(), "logits": None, "targets": None}
        if self._logits:
            state |= {"logits": torch.cat(self._logits).cpu(), "targets": torch.cat(self._targets).cpu()}
        if self.binned:
            state["metrics"] = {key: value.cpu() for key, value in self.metrics.state_dict().items()}
        return state

    def restore(self, states: list[dict[str, Any]], device: torch.device) -> None:
        """Take over what ``snapshot`` returned on one rank, or on several whose rows this one goes on with."""
        self._clear()
        for state in states:
            totals = state["totals"].to(device)
            self._totals = totals if self._totals is None else self._totals + totals
            if state["logits"] is not None:
                self._logits.append(state["logits"].to(device))
                self._targets.append(state["targets"].to(device))
                self._rows += len(state["targets"])
        if self.binned and states:
            self.metrics.load_state_dict(states[0]["metrics"])
