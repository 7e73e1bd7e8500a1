"""Columns become one vector a row: piecewise-linear numbers and looked-up categories, with no loop over columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn


def normal_knots(num_bins: int) -> Tensor:
    """Return the ``num_bins + 1`` edges of bins that hold equal shares of a standard normal variable.

    The outer edges, infinite in theory, leave a tenth of a bin's share beyond them.

    **Shape** ``(num_bins + 1,)``, increasing.

    >>> [round(knot, 3) for knot in normal_knots(4).tolist()]
    [-1.96, -0.674, 0.0, 0.674, 1.96]
    """
    shares = torch.arange(num_bins + 1, dtype=torch.float64) / num_bins
    tail = 0.1 / num_bins
    knots: Tensor = torch.special.ndtri(shares.clamp(tail, 1.0 - tail))
    return knots.float()


class PiecewiseLinear(nn.Module):
    """Encode a number as itself and its position in each of ``num_bins`` bins: 0 below the bin, 1 above it.

    Gorishniy et al. 2022 (arXiv:2203.05556), section 3.2, with two changes: inputs arrive as normal scores, so that
    the knots are the normal distribution's quantiles and nothing has to be fitted; and the number itself stands beside
    the bins, so that what lies beyond the outer knots is still told apart.

    **Shape** ``(B, n)`` to ``(B, n * (1 + num_bins))``; ``num_bins=0`` is the identity.

    >>> PiecewiseLinear(2, num_bins=4)(torch.zeros(1, 2)).round(decimals=3)
    tensor([[0., 0., 1., 1., 0., 0., 1., 1., 0., 0.]])
    """

    knots: Tensor
    scale: Tensor

    def __init__(self, num_numeric: int, *, num_bins: int) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.output_dim = num_numeric * (1 + num_bins)
        if num_bins:
            knots = normal_knots(num_bins)
            self.register_buffer("knots", knots[:-1], persistent=False)
            self.register_buffer("scale", 1.0 / (knots[1:] - knots[:-1]), persistent=False)

    def forward(self, x_num: Tensor) -> Tensor:
        if not self.num_bins:
            return x_num
        x = x_num.unsqueeze(-1)
        bins = ((x - self.knots) * self.scale).clamp_(0.0, 1.0)
        return torch.cat([x_num, bins.flatten(1)], dim=1)


class CategoricalEmbedding(nn.Module):
    """Look all columns up in one table of ``sum(cardinalities)`` rows; the codes of a column start at its offset.

    **Shape** ``(B, c)`` of int32 or int64 codes, each ``0 <= code < cardinality``, to ``(B, c * dim)``.

    >>> CategoricalEmbedding([3, 5], dim=4)(torch.tensor([[2, 4]], dtype=torch.int32)).shape
    torch.Size([1, 8])
    """

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], *, dim: int) -> None:
        super().__init__()
        starts = list(accumulate(cardinalities, initial=0))
        self.output_dim = len(cardinalities) * dim
        self.table = nn.Embedding(starts[-1], dim)
        self.register_buffer("offsets", torch.tensor(starts[:-1], dtype=torch.int32), persistent=False)
        nn.init.normal_(self.table.weight, std=dim**-0.5)

    def forward(self, x_cat: Tensor) -> Tensor:
        looked_up: Tensor = self.table(x_cat + self.offsets)
        return looked_up.flatten(1)


class FeatureEmbedding(nn.Module):
    """Join numeric and categorical columns into one vector a row; either kind may have no column.

    **Shape** ``x_num (B, n)``, ``x_cat (B, c)`` to ``(B, output_dim)``.

    >>> features = FeatureEmbedding(2, [3, 5], num_bins=4, embedding_dim=8)
    >>> features(torch.randn(7, 2), torch.zeros(7, 2, dtype=torch.int32)).shape == (7, features.output_dim)
    True
    """

    def __init__(self, num_numeric: int, cardinalities: Sequence[int], *, num_bins: int, embedding_dim: int) -> None:
        super().__init__()
        if num_numeric + len(cardinalities) == 0:
            raise ValueError("a model needs at least one numeric or categorical column")
        if bad := [size for size in cardinalities if size < 1]:
            raise ValueError(f"cardinalities must be at least 1, got {bad[0]}")
        self.num_numeric, self.num_categorical = num_numeric, len(cardinalities)
        self.numeric = PiecewiseLinear(num_numeric, num_bins=num_bins) if num_numeric else None
        self.categorical = CategoricalEmbedding(cardinalities, dim=embedding_dim) if cardinalities else None
        self.output_dim = sum(part.output_dim for part in (self.numeric, self.categorical) if part is not None)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        self._check(x_num, x_cat)
        parts = []
        if self.numeric is not None:
            parts.append(self.numeric(x_num))
        if self.categorical is not None:
            parts.append(self.categorical(x_cat))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _check(self, x_num: Tensor, x_cat: Tensor) -> None:
        expected = (self.num_numeric, self.num_categorical)
        if (x_num.ndim, x_cat.ndim) != (2, 2) or (x_num.shape[1], x_cat.shape[1]) != expected:
            raise ValueError(
                f"the model was built for x_num (B, {expected[0]}) and x_cat (B, {expected[1]}), "
                f"got {tuple(x_num.shape)} and {tuple(x_cat.shape)}"
            )
