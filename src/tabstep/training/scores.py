"""Loss and metrics of one split over one epoch: over rows, the same on any number of ranks, saved in mid-epoch."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from tabstep.errors import UserError
from tabstep.models.probabilities import probabilities
from tabstep.schema import Task

FLUSH_ROWS = 1 << 20
"""Rows kept before binned metrics take them in: metrics then run once in many batches, not in each."""


# a piece holds so many rows, of many columns fewer: at most 16 MiB of float32
_PIECE_ROWS: Final = 1 << 16
_PIECE_VALUES: Final = 1 << 22


class Kept:
    """Rows that stay for an epoch, copied into pieces of a fixed size.

    Kept as they come, the small tensors of each batch would lie between the activations that the next one frees, so
    that no memory could be given back: about 1 kB for each row of train was measured.

    >>> kept = Kept()
    >>> kept.add(torch.tensor([1, 2])), kept.add(torch.tensor([3])), len(kept), kept.joined().tolist()
    (None, None, 3, [1, 2, 3])
    """

    def __init__(self) -> None:
        self._pieces: list[Tensor] = []
        self._free = 0  # rows of the last piece

    def __len__(self) -> int:
        return sum(map(len, self._pieces)) - self._free

    def add(self, rows: Tensor) -> None:
        """Copy ``(B, ...)``; every call has the same shape but for B."""
        while len(rows):
            if not self._free:
                self._free = max(1, min(_PIECE_ROWS, _PIECE_VALUES // max(1, rows[0].numel())))
                self._pieces.append(rows.new_empty((self._free, *rows.shape[1:])))
            piece = self._pieces[-1]
            count = min(len(rows), self._free)
            start = len(piece) - self._free
            piece[start : start + count] = rows[:count]
            rows, self._free = rows[count:], self._free - count

    def joined(self) -> Tensor:
        """Return all rows in their order; there must be some."""
        *whole, last = self._pieces
        return torch.cat([*whole, last[: len(last) - self._free]])


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
        # a checkpoint in the middle of an epoch keeps their states, and those of the metrics that they are made of
        for metric in self.metrics.modules():
            if isinstance(metric, Metric):
                metric.persistent(True)
        self._clear()

    def _clear(self) -> None:
        self._logits, self._targets = Kept(), Kept()
        self._row_weights = Kept()
        self._losses, self._weights = Kept(), Kept()
        self._totals: Tensor | None = None

    def add(
        self, logits: Tensor, y: Tensor, loss_sum: Tensor, weight: Tensor, row_weights: Tensor | None = None
    ) -> None:
        """Take one batch: logits ``(B, num_outputs)``, targets, the sums of weighted losses and of weights.

        ``row_weights (B,)`` are those of the rows, in every call or in none.
        """
        self._logits.add(logits.detach())
        self._targets.add(y)
        if row_weights is not None:
            self._row_weights.add(row_weights)
        self._losses.add(loss_sum.detach().reshape(1))
        self._weights.add(weight.detach().reshape(1))
        if self.binned and len(self._targets) >= FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Hand the collected rows to the metrics."""
        if len(self._logits):
            # torchmetrics hands an argument by name to the metrics that take it alone
            weight = {"weight": self._row_weights.joined()} if len(self._row_weights) else {}
            probs = probabilities(self._logits.joined().float(), self.task)
            self.metrics.update(probs, self._targets.joined(), **weight)
        self._sum_losses()
        self._logits, self._targets, self._row_weights = Kept(), Kept(), Kept()

    def _sum_losses(self) -> Tensor:
        """Return (sum of losses, sum of weights), float64."""
        # Apple's GPU has no float64, so the sum is formed on the CPU there.
        parts = [kept.joined() if len(kept) else torch.zeros(0) for kept in (self._losses, self._weights)]
        sums = torch.stack(
            [part.cpu().double().sum() if part.device.type == "mps" else part.double().sum() for part in parts]
        )
        self._totals = sums if self._totals is None else self._totals.to(sums) + sums
        self._losses, self._weights = Kept(), Kept()
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
        if len(self._logits):
            state |= {"logits": self._logits.joined().cpu(), "targets": self._targets.joined().cpu()}
        if len(self._row_weights):
            state["row_weights"] = self._row_weights.joined().cpu()
        if self.binned:
            state["metrics"] = {key: _moved(value, "cpu") for key, value in self.metrics.state_dict().items()}
        return state

    def restore(self, states: list[dict[str, Any]], device: torch.device) -> None:
        """Take over what ``snapshot`` returned on one rank, or on several whose rows this one goes on with.

        Raises:
            UserError: a metric of another package cannot join what it has counted on several ranks.
        """
        self._clear()
        for state in states:
            totals = state["totals"].to(device)
            self._totals = totals if self._totals is None else self._totals + totals
            if state["logits"] is not None:
                self._logits.add(state["logits"].to(device))
                self._targets.add(state["targets"].to(device))
            if "row_weights" in state:
                self._row_weights.add(state["row_weights"].to(device))
        if self.binned and states:
            self.metrics.load_state_dict(self._joined([state["metrics"] for state in states], device))

    def _joined(self, states: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
        """Return the states of the metrics on several ranks as one, as torchmetrics would gather them at the end.

        Raises:
            UserError: a metric says of a state that it cannot be joined with those of other ranks.
        """
        joined = {key: _moved(value, device) for key, value in states[0].items()}
        if len(states) == 1:
            return joined
        for place, metric in self.metrics.named_modules():
            # torchmetrics has no other way to ask; its merge_state takes metrics of two ranks, but not every class
            for name, reduce in metric._reductions.items() if isinstance(metric, Metric) else ():
                key = f"{place}.{name}"
                parts = [_moved(state[key], device) for state in states]
                if isinstance(parts[0], list):
                    joined[key] = list(chain.from_iterable(parts))
                elif reduce is None:
                    raise UserError(
                        f"resume: {type(metric).__name__} of metrics.extra cannot join {name} of {len(parts)} ranks: "
                        "go on with as many, or leave the metric out"
                    )
                else:
                    assert callable(reduce)  # a name becomes a function when the state is added
                    joined[key] = torch.cat(parts) if reduce is dim_zero_cat else reduce(torch.stack(parts))
        return joined


def _moved(value: Any, device: torch.device | str) -> Any:
    """Return a state of a metric, a tensor or a list of them, on a device."""
    return [each.to(device) for each in value] if isinstance(value, list) else value.to(device)
