"""A linear model of all columns: a baseline of its own, and the part of a network that begins as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LINEAR_ROWS = 2_000
"""Rows of train below which ``auto`` adds a linear part: above, networks were better without."""


class LinearModel(nn.Module):
    """Logits that are linear in the numbers and in the indicators of the categories' codes.

    **Shape** ``x_num`` (B, num_numeric) and ``x_cat`` (B, len(cardinalities)) to logits (B, num_outputs).

    >>> LinearModel(2, [3], 1)(torch.zeros(4, 2), torch.zeros(4, 1).int()).shape
    torch.Size([4, 1])
    """

    offsets: Tensor

    def __init__(self, num_numeric: int, cardinalities: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        starts = list(accumulate(cardinalities, initial=0))
        self.numeric = nn.Parameter(torch.zeros(num_numeric, num_outputs))
        self.codes = nn.Parameter(torch.zeros(starts[-1], num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.register_buffer("offsets", torch.tensor(starts[:-1], dtype=torch.int32), persistent=False)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits = torch.addmm(self.bias, x_num.to(self.numeric.dtype), self.numeric)
        if x_cat.shape[1]:
            logits = logits + F.embedding(x_cat + self.offsets, self.codes).sum(dim=1)
        return logits

    def terms(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        """Return what each input adds to the logits, ``(B, num_numeric + len(cardinalities), num_outputs)``."""
        return torch.cat([x_num.unsqueeze(2) * self.numeric, F.embedding(x_cat + self.offsets, self.codes)], dim=1)


@torch.no_grad()
def begin_as(fitted: LinearModel, *, linear: LinearModel, output: Iterable[Tensor]) -> None:
    """Let a network begin as ``fitted``: its logits are those of ``linear`` and of a layer of the weights ``output``.

    The output layer begins at zero: what is learned is what is not linear. Few rows are soon learned by heart, and a
    network that starts from nothing forgets on the way what a linear model would have told.
    """
    linear.load_state_dict(fitted.state_dict())
    for weights in output:
        weights.zero_()
