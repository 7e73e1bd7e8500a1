"""From a model's outputs to probabilities: torch alone, since serving needs nothing else of the metrics."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tabstep.schema import Task


def probabilities(logits: Tensor, task: Task) -> Tensor:
    """Return float32 probabilities of logits ``(B, num_outputs)``; those of members ``(B, k, num_outputs)`` averaged.

    **Shape** binary ``(B,)`` of the positive class, multiclass ``(B, C)``, multilabel ``(B, L)``.

    >>> import torch
    >>> probabilities(torch.tensor([[0.0]]), "binary")
    tensor([0.5000])
    """
    logits = pooled(logits, task)
    if task == "multiclass":
        return logits.softmax(dim=1)
    return logits.sigmoid().squeeze(1) if task == "binary" else logits.sigmoid()


def pooled(logits: Tensor, task: Task) -> Tensor:
    """Return float32 logits ``(B, num_outputs)`` whose probabilities are the mean of the members' probabilities.

    **Shape** ``(B, k, num_outputs)``; ``(B, num_outputs)`` is returned as it is.

    >>> import torch
    >>> pooled(torch.tensor([[[-100.0], [100.0]]]), "binary")
    tensor([[0.]])
    """
    logits = logits.float()
    if logits.ndim == 2:
        return logits
    if task == "multiclass":
        # the log of the mean, but for log k, which the softmax takes out
        return logits.log_softmax(dim=2).logsumexp(dim=1)
    # log of the mean of p, less log of the mean of 1 - p; the number of members drops out
    return F.logsigmoid(logits).logsumexp(dim=1) - F.logsigmoid(-logits).logsumexp(dim=1)
