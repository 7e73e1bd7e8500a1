"""Multilayer perceptron over embedded columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from tabstep.models.embeddings import FeatureEmbedding
from tabstep.models.linear import LinearModel, begin_as
from tabstep.option_types import Bins, Count, Depth, Doc, Fraction, Switch


class MLP(nn.Module):
    """``depth`` blocks of linear, ReLU, dropout, then a linear head.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` int32 or int64 to logits
    ``(B, num_outputs)``.

    >>> import torch
    >>> model = MLP(2, [5, 9], 3, width=16, depth=2, dropout=0.1, num_bins=4, embedding_dim=8)
    >>> model(torch.randn(7, 2), torch.zeros(7, 2, dtype=torch.int32)).shape
    torch.Size([7, 3])
    """

    def __init__(  # noqa: PLR0913 - facts of the table, then one argument for each key of conf/model/mlp.yaml
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        width: Annotated[Count, Doc("units of a hidden layer")] = 256,
        depth: Annotated[Depth, Doc("hidden layers")] = 2,
        dropout: Fraction = 0.1,
        num_bins: Bins = "auto",
        embedding_dim: Annotated[Count, Doc("largest size of a column's embedding")] = 16,
        linear: Annotated[Switch, Doc("adds a linear model of the columns; auto: where rows are few")] = "auto",
        flags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.linear = LinearModel(num_numeric, cardinalities, num_outputs) if linear else None
        self.features = FeatureEmbedding(
            num_numeric, cardinalities, num_bins=num_bins, embedding_dim=embedding_dim, flags=flags
        )
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [nn.Linear(width if index else self.features.output_dim, width), nn.ReLU(), nn.Dropout(dropout)]
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_outputs)

    def begin_linear(self, fitted: LinearModel) -> None:
        """Start from a linear model that was fitted on train."""
        if self.linear is not None:
            begin_as(fitted, linear=self.linear, output=self.head.parameters())

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(self.features(x_num, x_cat)))
        return logits if self.linear is None else logits + self.linear(x_num, x_cat)
