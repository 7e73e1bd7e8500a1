"""From a model's outputs to probabilities: torch alone, since serving needs nothing else of the metrics."""

from __future__ import annotations

from torch import Tensor

from tabstep.schema import Task


def probabilities(logits: Tensor, task: Task) -> Tensor:
    """Return float32 probabilities of logits ``(B, num_outputs)``; members ``(B, k, num_outputs)`` are averaged.

    **Shape** binary ``(B,)`` of the positive class, multiclass ``(B, C)``, multilabel ``(B, L)``.

    >>> import torch
    >>> probabilities(torch.tensor([[0.0]]), "binary")
    tensor([0.5000])
    """
    logits = logits.float()
    if logits.ndim == 3:
        logits = logits.mean(dim=1)
    if task == "multiclass":
        return logits.softmax(dim=1)
    return logits.sigmoid().squeeze(1) if task == "binary" else logits.sigmoid()
