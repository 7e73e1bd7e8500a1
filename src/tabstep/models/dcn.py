"""DCNv2: explicit products of embedded columns beside, or below, a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from tabstep.models.embeddings import FeatureEmbedding
from tabstep.models.linear import LinearModel, begin_as
from tabstep.option_types import Count, Depth, Doc, Fraction, Index, Switch


class Cross(nn.Module):
    """``x0 * (W x + b) + x``: one more factor of ``x0`` in every product (Wang et al. 2020, arXiv:2008.13535, eq. 1).

    ``rank`` writes ``W`` as ``U V'`` of that many columns (section 3.3) where there are more inputs than that; 0 leaves
    it whole.

    **Shape** twice ``(B, size)`` to ``(B, size)``.
    """

    def __init__(self, size: int, *, rank: int) -> None:
        super().__init__()
        self.matrix = (
            nn.Sequential(nn.Linear(size, rank, bias=False), nn.Linear(rank, size))
            if 0 < rank < size
            else nn.Linear(size, size)
        )

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return torch.addcmul(x, x0, self.matrix(x))


class DCN(nn.Module):
    """Deep and cross network of Wang et al. 2020 (arXiv:2008.13535): ``crosses`` cross layers and a perceptron.

    The perceptron reads the embedded columns beside the cross layers, and the linear head both results (``parallel``),
    or it reads what the last cross layer returns (``stacked``): figure 1.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` int32 or int64 to logits
    ``(B, num_outputs)``.

    >>> model = DCN(2, [5], 1, crosses=2, rank=3, width=16, depth=1, num_bins=4, embedding_dim=8)
    >>> model(torch.randn(7, 2), torch.zeros(7, 1, dtype=torch.int32)).shape
    torch.Size([7, 1])
    """

    def __init__(  # noqa: PLR0913 - facts of the table, then one argument for each key of conf/model/dcn.yaml
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        crosses: Annotated[Depth, Doc("cross layers: products of up to one column more")] = 2,
        rank: Annotated[Index, Doc("rank of a cross layer's matrix; 0 leaves it whole")] = 64,
        structure: Annotated[
            Literal["parallel", "stacked"], Doc("where the perceptron is: beside the cross layers, or above them")
        ] = "parallel",
        width: Annotated[Count, Doc("units of a hidden layer")] = 256,
        depth: Annotated[Depth, Doc("hidden layers")] = 2,
        dropout: Fraction = 0.1,
        num_bins: Annotated[Index, Doc("bins of a piecewise-linear numeric embedding; 0 feeds plain numbers")] = 32,
        embedding_dim: Annotated[Count, Doc("largest size of a column's embedding")] = 16,
        linear: Annotated[Switch, Doc("adds a linear model of the columns; auto: where rows are few")] = "auto",
        flags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.linear = LinearModel(num_numeric, cardinalities, num_outputs) if linear else None
        self.features = FeatureEmbedding(
            num_numeric, cardinalities, num_bins=num_bins, embedding_dim=embedding_dim, flags=flags
        )
        self.is_stacked = structure == "stacked"
        size = self.features.output_dim
        self.crosses = nn.ModuleList(Cross(size, rank=rank) for _ in range(crosses))
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [nn.Linear(width if index else size, width), nn.ReLU(), nn.Dropout(dropout)]
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(width if self.is_stacked else size + width, num_outputs)

    def begin_linear(self, fitted: LinearModel) -> None:
        """Start from a linear model that was fitted on train."""
        if self.linear is not None:
            begin_as(fitted, linear=self.linear, output=self.head.parameters())

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        embedded: Tensor = self.features(x_num, x_cat)
        crossed = embedded
        for cross in self.crosses:
            crossed = cross(embedded, crossed)
        read = self.backbone(crossed) if self.is_stacked else torch.cat([crossed, self.backbone(embedded)], dim=1)
        logits: Tensor = self.head(read)
        return logits if self.linear is None else logits + self.linear(x_num, x_cat)
