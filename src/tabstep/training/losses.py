"""Losses on logits: a value and a weight for each row.

The caller divides the sum of ``value * weight`` by that of ``weight``: with the two kept apart, the mean over several
micro-batches, ranks or an epoch is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabstep.errors import UserError
from tabstep.schema import Task

LossName = Literal["auto", "cross_entropy", "bce", "focal"]


class Loss(nn.Module):
    """What the losses share: logits ``(B, num_outputs)``, or ``(B, k, num_outputs)`` of an ensemble's ``k`` members.

    Each member is scored against the same ``y``; a row's loss is the mean over members.

    Class weights teach a model the classes' shares in a weighted table. ``log`` of the weights is added to the logits
    before the loss (Menon et al. 2021, arXiv:2007.07314, equation 10), so that what the model gives by itself, wherever
    it is used, are logits of the shares as they are.

    **Shape** logits and ``y`` (binary, multiclass ``(B,)`` integers; multilabel ``(B, L)`` of 0 and 1) to losses
    ``(B,)`` and weights ``(B,)``, both float32.
    """

    class_weights: Tensor | None
    shift: Tensor | None

    def __init__(self, class_weights: Tensor | None, *, label_smoothing: float, focal_gamma: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        # no part of a checkpoint: the configuration makes them again
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer(
            "shift", None if class_weights is None else self.log_weights(class_weights), persistent=False
        )

    def forward(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.row_weights(y)
        # float32 whatever autocast has made of them: small losses vanish in 16 bits
        logits = logits.float() if self.shift is None else logits.float() + self.shift
        if logits.ndim == 2:
            return self.row_losses(logits, y), weights
        members = logits.shape[1]
        losses = self.row_losses(logits.flatten(0, 1), y.repeat_interleave(members, dim=0))
        return losses.view(-1, members).mean(dim=1), weights

    def log_weights(self, class_weights: Tensor) -> Tensor:
        """Return what class weights add to logits, ``(num_outputs,)``."""
        return class_weights.log()

    def row_losses(self, logits: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def row_weights(self, y: Tensor) -> Tensor:
        if self.class_weights is None:
            return torch.ones(len(y), device=y.device)
        return self.class_weights[y]

    def _focus(self, losses: Tensor) -> Tensor:
        """Scale each ``-log p`` by ``(1 - p) ** gamma`` (Lin et al. 2017, arXiv:1708.02002, equation 4)."""
        # 1 - p as -expm1(log p), exact where p is near 1; a power below 1 has no gradient at 0
        return losses * (-torch.expm1(-losses)).clamp_min(1e-12) ** self.focal_gamma if self.focal_gamma else losses


class BinaryLoss(Loss):
    """Cross-entropy of one logit, equal to that of the two logits ``(0, z)``.

    >>> loss = BinaryLoss(None, label_smoothing=0.0, focal_gamma=0.0)
    >>> loss(torch.zeros(2, 1), torch.tensor([0, 1]))[0]
    tensor([0.6931, 0.6931])
    """

    def log_weights(self, class_weights: Tensor) -> Tensor:
        # one logit is the difference of two
        return class_weights.log().diff()

    def row_losses(self, logits: Tensor, y: Tensor) -> Tensor:
        _expect(logits, y, (len(y), 1))
        z = logits.squeeze(1)
        positive = y.to(z.dtype)
        if not (self.label_smoothing or self.focal_gamma):
            return F.binary_cross_entropy_with_logits(z, positive, reduction="none")
        share = positive * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        losses = torch.stack([(1.0 - share) * self._focus(F.softplus(z)), share * self._focus(F.softplus(-z))], dim=1)
        if self.class_weights is None:
            return losses.sum(dim=1)
        # each class's part has the class's weight; that of ``y``, by which the caller multiplies, is divided out
        return losses @ self.class_weights / self.class_weights[y]


class MulticlassLoss(Loss):
    """Softmax cross-entropy.

    >>> loss = MulticlassLoss(None, label_smoothing=0.0, focal_gamma=0.0)
    >>> loss(torch.zeros(1, 4), torch.tensor([3]))[0]
    tensor([1.3863])
    """

    def row_losses(self, logits: Tensor, y: Tensor) -> Tensor:
        _expect(logits, y, (len(y), logits.shape[1]))
        if not self.focal_gamma:
            losses = F.cross_entropy(
                logits, y, self.class_weights, reduction="none", label_smoothing=self.label_smoothing
            )
            # torch has multiplied them by the class weights, and the caller does so too: once is divided out
            return losses if self.class_weights is None else losses / self.class_weights[y]
        classes = logits.shape[1]
        shares = F.one_hot(y, classes) * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        losses = shares * self._focus(-F.log_softmax(logits, dim=1))
        if self.class_weights is None:
            return losses.sum(dim=1)
        return losses @ self.class_weights / self.class_weights[y]


class MultilabelLoss(Loss):
    """Mean over the labels of each one's binary cross-entropy; ``class_weights (L,)`` are torch's ``pos_weight``.

    >>> loss = MultilabelLoss(None, label_smoothing=0.0, focal_gamma=0.0)
    >>> loss(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))[0]
    tensor([0.6931])
    """

    def row_losses(self, logits: Tensor, y: Tensor) -> Tensor:
        _expect(logits, y, tuple(y.shape))
        share = y.to(logits.dtype) * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        if not self.focal_gamma:
            losses = F.binary_cross_entropy_with_logits(logits, share, pos_weight=self.class_weights, reduction="none")
            return losses.mean(dim=1)
        positives = share * self._focus(F.softplus(-logits))
        if self.class_weights is not None:
            positives = positives * self.class_weights
        return (positives + (1.0 - share) * self._focus(F.softplus(logits))).mean(dim=1)

    def row_weights(self, y: Tensor) -> Tensor:
        return torch.ones(len(y), device=y.device)


class ForeignLoss(Loss):
    """A loss of torch or of another package, ``(logits, y)`` to a value a row, ``(B,)`` or ``(B, L)``.

    Binary and multilabel targets are float of the logits' shape, ``(B,)`` and ``(B, L)``; those of several classes are
    integers. torch's own losses take ``reduction: none``.

    >>> loss = ForeignLoss(nn.BCEWithLogitsLoss(reduction="none"), task="binary")
    >>> loss(torch.zeros(2, 1), torch.tensor([0, 1]))[0]
    tensor([0.6931, 0.6931])
    """

    def __init__(self, loss: nn.Module, *, task: Task) -> None:
        super().__init__(None, label_smoothing=0.0, focal_gamma=0.0)
        self.loss, self.task = loss, task

    def row_losses(self, logits: Tensor, y: Tensor) -> Tensor:
        binary = self.task == "binary"
        z = logits.squeeze(1) if binary else logits
        target = y if self.task == "multiclass" else y.to(z.dtype)
        losses: Tensor = self.loss(z, target)
        if losses.ndim == 0 or len(losses) != len(y):
            name = type(self.loss).__name__
            raise UserError(
                f"loss: {name} gives {tuple(losses.shape)} for {len(y)} rows: one value a row is needed, "
                "which torch's losses give with loss.reduction=none"
            )
        return losses.flatten(1).mean(dim=1) if losses.ndim > 1 else losses


LOSSES: dict[Task, type[Loss]] = {"binary": BinaryLoss, "multiclass": MulticlassLoss, "multilabel": MultilabelLoss}


def build_loss(
    name: LossName,
    *,
    task: Task,
    class_weights: Tensor | Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
) -> Loss:
    """Build the loss of a task; ``auto`` is ``cross_entropy``, or ``bce`` for a multilabel task.

    ``class_weights`` has one weight a class (binary: negative first), or a label's weight of the positives.
    ``focal_gamma`` counts for ``focal`` only. Raises ``UserError`` where name and task do not fit.

    >>> build_loss("auto", task="binary")
    BinaryLoss()
    """
    wrong = {"bce": "multiclass", "cross_entropy": "multilabel"}.get(name)
    if task == wrong:
        fit = "cross_entropy" if task == "multiclass" else "bce"
        raise UserError(f"loss.name: {name} does not fit a {task} task; choose auto, {fit} or focal")
    weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
    gamma = focal_gamma if name == "focal" else 0.0
    return LOSSES[task](weights, label_smoothing=label_smoothing, focal_gamma=gamma)


def balanced_weights(parts: Iterable[Tensor], *, task: Task, num_outputs: int) -> Tensor:
    """Return weights that give each class the same total: ``N / (classes * count)`` as in scikit-learn.

    Multilabel: ``negatives / positives`` of each label. A class or label that ``y`` lacks counts as if seen once.

    **Shape** parts of ``y`` as for the loss to ``(classes,)`` or ``(L,)``, float32.

    >>> balanced_weights([torch.tensor([0, 0]), torch.tensor([0, 1])], task="binary", num_outputs=1)
    tensor([0.6667, 2.0000])
    """
    rows, classes = 0, 2 if task == "binary" else num_outputs
    counts = torch.zeros(classes, dtype=torch.float64)
    for y in parts:
        rows += len(y)
        counts += y.double().sum(dim=0) if task == "multilabel" else torch.bincount(y.long(), minlength=classes)
    return weights_of_counts(counts, rows, task=task)


def weights_of_counts(counts: Tensor, rows: int, *, task: Task) -> Tensor:
    """Return what ``balanced_weights`` does of the rows of each class, or of those with each label."""
    counts = counts.double()
    if task == "multilabel":
        return ((rows - counts).clamp_min(1.0) / counts.clamp_min(1.0)).float()
    return (rows / (len(counts) * counts.clamp_min(1.0))).float()


def _expect(logits: Tensor, y: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(logits.shape) != shape or (y.ndim == 1 and y.dtype.is_floating_point):
        raise ValueError(
            f"logits {tuple(logits.shape)} do not fit targets {tuple(y.shape)} of {y.dtype}: expected {shape} logits "
            "and integer targets (multilabel: as many columns as labels)"
        )
