"""Probabilities that mean what they say: a temperature fitted on val, and how far off they are before and after."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from tabstep.models.probabilities import probabilities
from tabstep.schema import Task
from tabstep.training.metrics import NAN, check_update, clip

MOST_ROWS = 1_000_000
"""Rows that one number needs at most; of more, every n-th will do."""
SPREAD = 0.5
"""Standard deviation of the logarithm of the temperature before any row is seen: it counts where rows are few."""
# of the logarithm: temperatures from 1/12 to 12
LIMIT = 2.5
# golden sections: 4e-9 of the interval is left after so many
STEPS = 40
TEMPERATURES = 33
"""Temperatures from ``exp(-2)`` to ``exp(2)`` that an epoch is tried with."""


def fit_temperature(logits: Tensor, y: Tensor, task: Task, weight: Tensor | None = None) -> tuple[float, ...]:
    """Return the temperature that logits of val are to be divided by; multilabel has one a label.

    Guo et al. 2017 (arXiv:1706.04599), section 4.2: that of the lowest log-loss. Here it is the most probable one under
    a log-normal prior around 1, for a few dozen rows that are all predicted right would send it to zero. It changes no
    decision; 1.0 where a logit is not finite. Weights of rows count by their ratio to the mean one.

    **Shape** ``(N, num_outputs)`` and ``y`` as for the loss, on the CPU.
    """
    logits = logits.double()
    count = logits.shape[1] if task == "multilabel" else 1
    if len(y) == 0 or not bool(logits.isfinite().all()):
        return (1.0,) * count

    rows = torch.ones(len(y)) if weight is None else weight
    # all rows may weigh nothing
    shares = (rows.double() * len(y) / rows.double().sum().clamp_min(1e-300)).unsqueeze(1)

    def cost(log_temperature: Tensor) -> Tensor:
        scaled = probabilities(logits / log_temperature.exp(), task)
        # the second part is minus the logarithm of the prior
        return (shares * _surprise(scaled, y, task)).sum(dim=0) + 0.5 * (log_temperature / SPREAD) ** 2

    return tuple(_lowest(cost, count).exp().tolist())


def _surprise(probs: Tensor, y: Tensor, task: Task) -> Tensor:
    """Return ``-log p`` of what happened, ``(N, 1)`` or, multilabel, ``(N, labels)``, float64."""
    safe = clip(probs)
    if task == "multiclass":
        return -safe.gather(1, y.long().unsqueeze(1)).log()
    surprise = -torch.where(y > 0, safe, 1.0 - safe).log()
    return surprise.unsqueeze(1) if task == "binary" else surprise


def _lowest(cost: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """Return where ``count`` functions of one number each are lowest in ``[-LIMIT, LIMIT]``, by golden sections."""
    ratio = (5.0**0.5 - 1.0) / 2.0
    low, high = torch.full((count,), -LIMIT, dtype=torch.float64), torch.full((count,), LIMIT, dtype=torch.float64)
    for _ in range(STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        goes_left = cost(left) <= cost(right)
        low, high = torch.where(goes_left, low, left), torch.where(goes_left, right, high)
    return (low + high) / 2.0


class CalibratedLogLoss(Metric):
    """Log-loss at the best of some temperatures: what it will be once the probabilities are calibrated.

    An epoch is judged by it, since a temperature is fitted in any case: the plain log-loss asks for an epoch before the
    network becomes too sure of itself, though it goes on learning to tell classes apart (Berta et al. 2025,
    arXiv:2501.19195). Bounded state, float64; of multilabel, each label has a temperature of its own.

    >>> scores = CalibratedLogLoss("binary", 1)
    >>> sure, y = torch.tensor([0.999, 0.999, 0.001, 0.999]), torch.tensor([1, 1, 0, 0])
    >>> scores.update(sure, y)
    >>> plain = _surprise(sure, y, "binary").mean()
    >>> bool(scores.compute()["calibrated_log_loss"] < plain)
    True
    """

    full_state_update = False
    losses: Tensor
    rows: Tensor
    weights: Tensor

    def __init__(self, task: Task, num_outputs: int) -> None:
        super().__init__()
        self.task = task
        columns = num_outputs if task == "multilabel" else 1
        # constants and no state: nothing of them is summed or saved
        self._temperatures = torch.linspace(-2.0, 2.0, TEMPERATURES, dtype=torch.float64).exp()
        self.add_state("losses", torch.zeros(TEMPERATURES, columns, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("weights", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        """Take rows, each ``weight`` times where weights ``(B,)`` are given."""
        check_update(probs, y, self.task)
        safe = clip(probs)
        # metrics are given probabilities: these are their logits but for a constant
        logits = safe.log() if self.task == "multiclass" else safe.logit()
        for index, temperature in enumerate(self._temperatures.tolist()):
            # 0 * NaN is NaN, as in CalibrationScores
            self.losses[index] += _log_loss_sums(logits / temperature, y, self.task, weight) + 0.0 * probs.sum()
        self.rows += len(y)
        self.weights += len(y) if weight is None else weight.double().sum()

    def compute(self) -> dict[str, Tensor]:
        prior = 0.5 * (self._temperatures.log() / SPREAD) ** 2
        means = self.losses / self.weights  # as in fit_temperature, weights count by their ratio to the mean one
        # a mean times the rows is the sum at a mean weight of 1, as fit_temperature has it
        chosen = (means * self.rows + prior.to(means).unsqueeze(1)).argmin(dim=0, keepdim=True)
        mean = means.gather(0, chosen).mean()
        return {"calibrated_log_loss": mean if self.weights else NAN.to(mean.device)}


def _log_loss_sums(logits: Tensor, y: Tensor, task: Task, weight: Tensor | None) -> Tensor:
    """Return the sum over rows of the log-loss, ``(1,)`` or, multilabel, ``(labels,)``."""
    if task == "multiclass":
        losses = F.cross_entropy(logits, y.long(), reduction="none")
    else:
        losses = F.softplus(torch.where(y > 0, -logits, logits))
    if weight is not None:
        losses = losses * weight.view(-1, *[1] * (losses.ndim - 1))
    return losses.sum(dim=0, keepdim=task != "multilabel")


class CalibrationScores(Metric):
    """Log-loss and expected calibration error from sums: bounded state, float64.

    The error is the mean over rows of the distance between the mean probability and the share that it came true,
    within each of ``bins`` equal bins of probability (Guo et al. 2017, equation 3): of the positive class, of the
    predicted class of several, or of each label of each row.

    >>> scores = CalibrationScores("binary")
    >>> scores.update(torch.tensor([0.9, 0.9, 0.1, 0.1]), torch.tensor([1, 0, 0, 0]))
    >>> round(scores.compute()["ece"].item(), 3)
    0.25
    """

    full_state_update = False
    rows: Tensor
    confidence: Tensor
    hits: Tensor
    loss: Tensor

    def __init__(self, task: Task, *, bins: int = 15) -> None:
        super().__init__()
        self.task, self.bins = task, bins
        for name in ("rows", "confidence", "hits"):
            self.add_state(name, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        """Take rows, each ``weight`` times where weights ``(B,)`` are given."""
        check_update(probs, y, self.task)
        w = (torch.ones(len(y), device=y.device) if weight is None else weight).double()
        # 0 * NaN is NaN: one among a row's other probabilities shows as well
        self.loss += (w @ _surprise(probs, y, self.task)).sum() + 0.0 * probs.sum()
        if self.task == "multiclass":
            confidence, chosen = probs.max(dim=1)
            came_true = chosen == y
        else:
            confidence, came_true = probs.flatten(), y.flatten() > 0
        # NaN has no bin; ``loss`` is NaN then, by which ``compute`` knows
        places = (confidence.nan_to_num(0.0) * self.bins).long().clamp_(0, self.bins - 1)
        counts = w.repeat_interleave(len(confidence) // max(len(y), 1))  # of several labels, each counts as its row
        for state, values in ((self.rows, None), (self.confidence, confidence), (self.hits, came_true)):
            weights = counts if values is None else counts * values
            state += torch.bincount(places, weights, minlength=self.bins)

    def compute(self) -> dict[str, Tensor]:
        count = self.rows.sum()
        if count == 0 or self.loss.isnan():
            nan = NAN.to(self.loss.device)
            return {"log_loss": nan, "ece": nan}
        return {"log_loss": self.loss / count, "ece": (self.confidence - self.hits).abs().sum() / count}
