"""A model that lives outside tabstep: a generalized additive model, whose logits are a sum of one share a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from tabstep.option_types import Count, Doc, Fraction


class Additive(nn.Module):
    """A curve of each number and a value of each category, added up: what a column contributes can be drawn.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` integer to ``(B, num_outputs)``.

    >>> Additive(2, [5], 1, width=4)(torch.randn(7, 2), torch.zeros(7, 1, dtype=torch.int32)).shape
    torch.Size([7, 1])
    """

    def __init__(
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        width: Annotated[Count, Doc("bends of a number's curve")],
        dropout: Fraction = 0.0,
    ) -> None:
        super().__init__()
        self.curves = nn.ModuleList(
            nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, num_outputs, bias=False))
            for _ in range(num_numeric)
        )
        self.values = nn.ModuleList(nn.Embedding(size, num_outputs) for size in cardinalities)
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def shares(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        """Return what each column adds, ``(B, columns, num_outputs)``."""
        numeric = [curve(x_num[:, index : index + 1]) for index, curve in enumerate(self.curves)]
        categorical = [value(x_cat[:, index]) for index, value in enumerate(self.values)]
        return torch.stack([*numeric, *categorical], dim=1)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return self.dropout(self.shares(x_num, x_cat)).sum(dim=1) + self.bias
