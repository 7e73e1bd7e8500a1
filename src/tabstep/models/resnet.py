"""Residual network over embedded columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from tabstep.models.embeddings import FeatureEmbedding
from tabstep.models.linear import LinearModel, begin_as
from tabstep.option_types import Count, Depth, Doc, Fraction, Index, Positive, Switch


class ResidualBlock(nn.Module):
    """``x + dropout(linear(dropout(relu(linear(norm(x))))))``, the block of Gorishniy et al. 2021, section 3.2.

    **Shape** ``(B, width)`` to ``(B, width)``.
    """

    def __init__(self, width: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.layers(x))


class ResNet(nn.Module):
    """Residual blocks between a linear layer and a normalized linear head (arXiv:2106.11959, section 3.2).

    The paper normalizes with BatchNorm; LayerNorm has no running state, does not mix the rows of a batch and takes a
    batch of one.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` int32 or int64 to logits
    ``(B, num_outputs)``.

    >>> model = ResNet(2, [5], 1, width=16, depth=2, expansion=2, dropout=0.1, num_bins=4, embedding_dim=8)
    >>> model(torch.randn(7, 2), torch.zeros(7, 1, dtype=torch.int32)).shape
    torch.Size([7, 1])
    """

    def __init__(  # noqa: PLR0913 - facts of the table, then one argument for each key of conf/model/resnet.yaml
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        width: Annotated[Count, Doc("units between the blocks")] = 192,
        depth: Annotated[Depth, Doc("blocks")] = 3,
        expansion: Annotated[Positive, Doc("hidden units of a block, as a multiple of width")] = 2.0,
        dropout: Fraction = 0.1,
        num_bins: Annotated[Index, Doc("bins of a piecewise-linear numeric embedding; 0 feeds plain numbers")] = 16,
        embedding_dim: Annotated[Count, Doc("largest size of a column's embedding")] = 16,
        linear: Annotated[Switch, Doc("adds a linear model of the columns; auto: where rows are few")] = "auto",
        flags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.linear = LinearModel(num_numeric, cardinalities, num_outputs) if linear else None
        self.features = FeatureEmbedding(
            num_numeric, cardinalities, num_bins=num_bins, embedding_dim=embedding_dim, flags=flags
        )
        hidden = max(1, round(width * expansion))
        self.stem = nn.Linear(self.features.output_dim, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, hidden, dropout=dropout) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, num_outputs))

    def begin_linear(self, fitted: LinearModel) -> None:
        """Start from a linear model that was fitted on train."""
        if self.linear is not None:
            begin_as(fitted, linear=self.linear, output=self.head[-1].parameters())

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(self.features(x_num, x_cat))))
        return logits if self.linear is None else logits + self.linear(x_num, x_cat)
