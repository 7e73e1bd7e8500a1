"""From a model's outputs to probabilities: torch alone, since serving needs nothing else of the metrics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabstep.schema import Task

MEMBER_WEIGHTS = "member_weights"
"""The buffer ``(k,)`` of a model of ``k`` members whose weights are to be chosen on val, once it is trained."""


def probabilities(logits: Tensor, task: Task) -> Tensor:
    """Return float32 probabilities of logits ``(B, num_outputs)``; those of members ``(B, k, num_outputs)`` averaged.

    **Shape** binary ``(B,)`` of the positive class, multiclass ``(B, C)``, multilabel ``(B, L)``.

    Equal logits have equal probabilities wherever they stand, so that ties stay ties: they are rounded from float64. In
    float32 a processor takes another way for the last few values than for whole vectors of them, with another last bit.

    >>> import torch
    >>> probabilities(torch.tensor([[0.0]]), "binary")
    tensor([0.5000])
    """
    logits = pooled(logits, task)
    if logits.device.type != "mps":  # Apple's GPU has no float64
        logits = logits.double()
    if task == "multiclass":
        return logits.softmax(dim=1).float()
    return logits.sigmoid().float().squeeze(1) if task == "binary" else logits.sigmoid().float()


def pooled(logits: Tensor, task: Task, weights: Tensor | None = None) -> Tensor:
    """Return float32 logits ``(B, num_outputs)`` whose probabilities are the mean of the members' probabilities.

    **Shape** ``(B, k, num_outputs)``; ``(B, num_outputs)`` is returned as it is. ``weights (k,)``, not all of them
    zero, are those of the members in the mean, of which the sum does not matter; None weighs all alike.

    >>> import torch
    >>> pooled(torch.tensor([[[-100.0], [100.0]]]), "binary")
    tensor([[0.]])
    """
    logits = logits.float()
    if logits.ndim == 2:
        return logits
    if task == "multiclass":
        return _log_sum(logits.log_softmax(dim=2), weights)
    # log of the mean of p, less log of the mean of 1 - p; the sum of the weights drops out
    return _log_sum(F.logsigmoid(logits), weights) - _log_sum(F.logsigmoid(-logits), weights)


def _log_sum(log_probs: Tensor, weights: Tensor | None) -> Tensor:
    """Return the logarithm of the sum over members ``(B, k, n)``, each times its weight."""
    if weights is not None:
        shares = weights.unsqueeze(1)
        # a member of no weight may be nan
        log_probs = (log_probs + shares.log()).masked_fill(shares == 0, -torch.inf)
    return log_probs.logsumexp(dim=1)


def member_weights(model: nn.Module) -> Tensor | None:
    """Return the weights of a model's members in its predictions, ``(k,)``; None where it leaves them alike."""
    return dict(model.named_buffers(recurse=False)).get(MEMBER_WEIGHTS)
