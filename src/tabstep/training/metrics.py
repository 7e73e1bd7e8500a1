"""Metrics of probabilities, equal to scikit-learn's, that say nan where a number would lie.

torchmetrics' own classes were not taken, for four faults, all measured on 1.9.0 and shown in
``tests/training/test_extra_metrics.py``: a NaN probability gives a finite accuracy, F1, AUROC and average precision;
AUROC is 0.0 where there is one class only and counts an absent class as 0 in the macro mean; average precision is 0.0
without a positive; accuracy of no row is 0.0. These are torchmetrics ``Metric`` classes in all else: states synchronize
across ranks, move with the module and fit into a ``MetricCollection``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from tabstep.schema import Task

NAN = torch.tensor(torch.nan, dtype=torch.float64)


def build_metrics(task: Task, num_outputs: int, *, thresholds: int | None = None) -> MetricCollection:
    """Build accuracy, f1, log_loss, auroc and average_precision over one stream of ``(probabilities, y)``.

    ``thresholds=None`` keeps every probability and is exact; a number keeps a histogram of that many bins, bounded in
    memory, whose two ranking metrics are off by about ``1 / thresholds`` at most. All are nan after a NaN probability.

    Where rows have weights, given as ``weight``, all are those of scikit-learn's ``sample_weight``.

    - accuracy: share of rows; multilabel, of row and label pairs
    - f1: of the positive class (``p > 0.5``); multiclass and multilabel, mean over classes that occur or are predicted
    - log_loss: mean over rows; multilabel, over pairs
    - auroc, average_precision: one-vs-rest, mean over the classes with both positives and negatives; nan without any

    >>> metrics = build_metrics("binary", 1)
    >>> metrics.update(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
    >>> {name: round(value.item(), 4) for name, value in sorted(metrics.compute().items())}
    {'accuracy': 0.75, 'auroc': 0.75, 'average_precision': 0.8333, 'f1': 0.6667, 'log_loss': 0.4723}
    """
    parts: dict[str, Metric | MetricCollection] = {
        "counts": CountScores(task, num_outputs),
        "ranking": RankScores(task, num_outputs, bins=thresholds),
    }
    # each metric has states of its own: there are no groups to look for
    return MetricCollection(parts, compute_groups=False)


class CountScores(Metric):
    """Accuracy, F1 and log-loss from sums: bounded state, float64.

    >>> scores = CountScores("multiclass", 3)
    >>> scores.update(torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]]), torch.tensor([0, 2]))
    >>> round(scores.compute()["accuracy"].item(), 2)
    0.5
    """

    full_state_update = False
    matched: Tensor
    predicted: Tensor
    actual: Tensor
    hits: Tensor
    cells: Tensor
    loss: Tensor

    def __init__(self, task: Task, num_outputs: int) -> None:
        super().__init__()
        self.task = task
        for name in ("matched", "predicted", "actual"):
            self.add_state(name, torch.zeros(num_outputs, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("hits", "cells"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probs: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        check_update(probs, y, self.task)
        w = torch.ones(len(y), device=y.device).double() if weight is None else weight.double()
        if self.task == "multiclass":
            chosen = probs.argmax(dim=1)
            right = chosen == y
            self.actual += torch.bincount(y, w, minlength=len(self.actual))
            self.predicted += torch.bincount(chosen, w, minlength=len(self.predicted))
            self.matched += torch.bincount(y[right], w[right], minlength=len(self.matched))
            likelihoods = clip(probs).gather(1, y.unsqueeze(1))
        else:
            positive, truth = (probs > 0.5).view(len(y), -1), y.view(len(y), -1) > 0
            right = positive == truth
            self.actual += w @ truth.double()
            self.predicted += w @ positive.double()
            self.matched += w @ (positive & truth).double()
            likelihoods = torch.where(truth.view_as(probs), clip(probs), 1.0 - clip(probs))
        rows = w.view(-1, *[1] * (right.ndim - 1))
        self.hits += (rows * right).sum()
        self.cells += rows.expand_as(right).sum()
        # A NaN among a row's probabilities shows here even where the row's own class has a finite one.
        self.loss -= (w @ likelihoods.log().view(len(y), -1)).sum() + 0.0 * probs.sum()

    def compute(self) -> dict[str, Tensor]:
        if self.cells == 0 or self.loss.isnan():
            nan = NAN.to(self.loss.device)
            return {"accuracy": nan, "f1": nan, "log_loss": nan}
        seen = self.actual + self.predicted
        # 0 / 0 where a class neither occurs nor is predicted, which the mean leaves out
        f1 = 2.0 * self.matched / seen
        return {"accuracy": self.hits / self.cells, "f1": f1.nanmean(), "log_loss": self.loss / self.cells}


class RankScores(Metric):
    """AUROC and average precision, exact from all probabilities or, with ``bins``, from histograms of bounded size.

    >>> scores = RankScores("binary", 1, bins=None)
    >>> scores.update(torch.tensor([0.2, 0.3]), torch.tensor([1, 1]))
    >>> scores.compute()["auroc"].item()  # one class only
    nan
    """

    full_state_update = False
    histogram: Tensor
    nans: Tensor
    probs: list[Tensor] | Tensor
    truth: list[Tensor] | Tensor
    weights: list[Tensor] | Tensor

    def __init__(self, task: Task, num_outputs: int, *, bins: int | None) -> None:
        super().__init__()
        self.task, self.num_outputs, self.bins = task, num_outputs, bins
        if bins:
            self.add_state("histogram", torch.zeros(num_outputs * 2 * bins, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("nans", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        else:
            self.add_state("probs", [], dist_reduce_fx="cat")
            self.add_state("truth", [], dist_reduce_fx="cat")
            self.add_state("weights", [], dist_reduce_fx="cat")

    def update(self, probs: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        check_update(probs, y, self.task)
        weight = torch.ones(len(y), device=y.device) if weight is None else weight.float()
        if self.bins:
            self._count(probs.float().view(len(y), -1), y, weight, self.bins)
            return
        assert isinstance(self.probs, list)
        assert isinstance(self.truth, list)
        assert isinstance(self.weights, list)
        # One-dimensional and float32: what torchmetrics gathers for a rank without a row has that form.
        self.probs.append(probs.float().flatten())
        self.truth.append(y.float().flatten())
        self.weights.append(weight)

    def _count(self, probs: Tensor, y: Tensor, weight: Tensor, bins: int) -> None:
        self.nans += probs.isnan().sum()
        # NaN has no bin: ``nans`` tells of it
        places = (probs.nan_to_num(0.0) * bins).long().clamp_(0, bins - 1)
        lists = torch.arange(self.num_outputs, device=y.device) * 2 + self._indicators(y)
        counts = weight.double().unsqueeze(1).expand_as(places).flatten()
        self.histogram.scatter_add_(0, (places + lists * bins).flatten(), counts)

    def _indicators(self, y: Tensor) -> Tensor:
        """Return 0 or 1 for each row and class, ``(B, num_outputs)``."""
        if self.task != "multiclass":
            return y.view(len(y), -1).long()
        return (y.unsqueeze(1) == torch.arange(self.num_outputs, device=y.device)).long()

    def compute(self) -> dict[str, Tensor]:
        pairs = self._from_histogram(self.bins) if self.bins else self._from_rows()
        device = self.histogram.device if self.bins else self.device
        return {"auroc": pairs[0].nanmean().to(device), "average_precision": pairs[1].nanmean().to(device)}

    def _from_histogram(self, bins: int) -> Tensor:
        if self.nans > 0:
            return NAN.expand(2, 1)
        # the highest scores first, as areas takes them
        counts = self.histogram.view(self.num_outputs, 2, bins).flip(2).cpu()
        return torch.stack([areas(positives, negatives) for negatives, positives in counts], dim=1)

    def _from_rows(self) -> Tensor:
        probs, truth, weight = (
            dim_zero_cat(state).cpu() if len(state) else torch.zeros(0)
            for state in (self.probs, self.truth, self.weights)
        )
        if probs.numel() == 0 or probs.isnan().any():
            return NAN.expand(2, 1)
        probs, y = probs.view(-1, self.num_outputs), truth.long()
        indicators = self._indicators(y.view(-1, self.num_outputs) if self.task == "multilabel" else y)
        return torch.stack(
            [areas(*tally(probs[:, c], indicators[:, c], weight)) for c in range(self.num_outputs)], dim=1
        )


def tally(scores: Tensor, truth: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Count positives and negatives at each distinct score, highest first; each row ``weight`` times.

    **Shape** ``(N,)`` and ``(N,)`` of 0 and 1 to two of ``(distinct,)``.

    >>> tally(torch.tensor([0.5, 0.9, 0.5]), torch.tensor([1, 0, 0]))
    (tensor([0, 1]), tensor([1, 1]))
    """
    ranked, order = scores.sort(descending=True)
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:-1] = ranked[1:] != ranked[:-1]
    if weight is None:
        hits, rows = truth[order].cumsum(0)[last], torch.arange(1, len(ranked) + 1)[last]
    else:  # float64: whole weights add up exactly
        each = weight.double()[order]
        hits, rows = (each * truth[order]).cumsum(0)[last], each.cumsum(0)[last]
    positives = hits.diff(prepend=hits.new_zeros(1))
    negatives = rows.diff(prepend=rows.new_zeros(1)) - positives
    return positives, negatives if weight is None else negatives.clamp_min(0.0)  # sums of fractions are rounded


def areas(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return AUROC (ties count one half) and average precision (no interpolation) from counts, highest score first.

    **Shape** ``(n,)`` and ``(n,)`` to ``(2,)`` float64; nan where there are no positives or no negatives.

    >>> areas(torch.tensor([1, 1]), torch.tensor([0, 2])).tolist()
    [0.75, 0.75]
    """
    p, n = positives.double(), negatives.double()
    if p.sum() == 0 or n.sum() == 0:
        return NAN.expand(2)
    tp, fp = p.cumsum(0), n.cumsum(0)
    # to each negative the positives above it, and half of those at its own score
    auroc = (n * (tp - 0.5 * p)).sum() / (p.sum() * n.sum())
    seen = tp + fp  # of weights: it may be any number
    precision = tp / torch.where(seen > 0, seen, 1.0)
    return torch.stack([auroc, (p * precision).sum() / p.sum()])


def clip(probs: Tensor) -> Tensor:
    """Keep float32 probabilities one epsilon away from 0 and 1, as scikit-learn's log_loss, and return float64."""
    epsilon = torch.finfo(torch.float32).eps
    return probs.double().clamp(epsilon, 1.0 - epsilon)


def check_update(probs: Tensor, y: Tensor, task: Task) -> None:
    """Raise ``ValueError`` where shapes or types of one update do not fit the task."""
    expected = y.ndim == 2 if task == "multilabel" else y.ndim == 1 and not y.dtype.is_floating_point
    if not expected or probs.ndim != (1 if task == "binary" else 2) or len(probs) != len(y):
        raise ValueError(
            f"{task} metrics take probabilities and y, got {tuple(probs.shape)}, {tuple(y.shape)} {y.dtype}"
        )
    if not probs.dtype.is_floating_point or probs.dtype.itemsize < 4:
        raise ValueError(f"metrics take float32 probabilities, got {probs.dtype}, which ties what differs")
    classes = probs.shape[1] if task == "multiclass" else 2
    # Elsewhere a look at the values would wait for the device; the training step has checked them once.
    if y.device.type == "cpu" and not ((y >= 0) & (y < classes) & (y == y.long())).all():
        raise ValueError(
            f"{task} metrics take labels from 0 to {classes - 1}, got {y.min().item()} to {y.max().item()}"
        )
