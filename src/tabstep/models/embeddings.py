"""Columns become one vector a row: numbers through piecewise-linear functions, categories through a table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling

SPAN = 3.0
"""Normal scores that the bins cover; one row of 370 lies beyond, where the embedding is linear."""
NO_BOUND = 1e30
"""In place of infinity, which an average of two buffers would turn into nan."""
FEW_BINS = 32
SPECIAL_CODES = 3
"""The first codes of a column: missing, unseen and rare. Train may show none of them, and never shows unseen."""
MAX_INPUTS = 16_384
"""Inputs of the first layer, whatever the number of columns: the sizes of the embeddings shrink above it."""


PIECE_ROWS = 256
"""Rows whose positions in the bins are made together on a CPU: 2 MB for 60 columns, about its second cache."""


class NumericEmbedding(nn.Module):
    """Embed each number by a piecewise-linear function of its own, then ReLU; no loop over columns.

    Gorishniy et al. 2022 (arXiv:2203.05556), section 3.2 and figure 1 ("PLR" with "Q"): a number is encoded as its
    position in each of ``num_bins`` bins, 0 below the bin and 1 above it, and each column has its own linear layer.
    Two changes: inputs arrive as normal scores, so that knots at equal distances between -3 and 3 need no fitting and
    leave bins to the tails; and the number itself stands beside the bins.

    **Shape** ``(B, n)`` to ``(B, n * dim)``.

    >>> NumericEmbedding(2, num_bins=4, dim=8)(torch.zeros(5, 2)).shape
    torch.Size([5, 16])
    """

    shifts: Tensor
    scales: Tensor
    bounds: Tensor

    def __init__(self, num_numeric: int, *, num_bins: int, dim: int) -> None:
        super().__init__()
        self.output_dim = num_numeric * dim
        # The number itself comes first, as a bin without bounds: no copy joins it to the others.
        bounds = torch.tensor([[-NO_BOUND, NO_BOUND]] + [[0.0, 1.0]] * num_bins)
        shifts = 0.5 * num_bins - torch.arange(num_bins)
        scales = torch.full((num_bins,), num_bins / (2.0 * SPAN))
        # made of the options: no part of the weights
        self.register_buffer("bounds", bounds.t().contiguous(), persistent=False)
        self.register_buffer("shifts", torch.cat([torch.zeros(1), shifts]), persistent=False)
        self.register_buffer("scales", torch.cat([torch.ones(1), scales]), persistent=False)
        self.weight = nn.Parameter(torch.randn(num_numeric, num_bins + 1, dim) * 0.5 * (num_bins + 1) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(num_numeric, 1, dim))

    def forward(self, x_num: Tensor) -> Tensor:
        bins = (self.shifts, self.scales, self.bounds)
        if not _can_be_cut(x_num) or len(x_num) <= PIECE_ROWS:  # in this order: a trace knows no number of rows
            embedded = torch.baddbmm(self.bias, _positions(x_num, *bins), self.weight)
            return embedded.relu().transpose(0, 1).flatten(1)
        pieces: Tensor = _InPieces.apply(x_num, self.weight, self.bias, *bins)  # type: ignore[no-untyped-call]
        return pieces.flatten(1)


def _positions(x_num: Tensor, shifts: Tensor, scales: Tensor, bounds: Tensor) -> Tensor:
    """Return ``(n, B, num_bins + 1)``: each number, then its position in each bin."""
    return torch.addcmul(shifts, x_num.t().unsqueeze(2), scales).clamp_(*bounds)


def _can_be_cut(x_num: Tensor) -> bool:
    """Tell whether the fast form applies: what differentiates by the numbers, casts or compiles gets the plain one."""
    return not (x_num.requires_grad or x_num.device.type != "cpu" or torch.is_autocast_enabled("cpu") or is_compiling())


class _InPieces(torch.autograd.Function):
    """The numeric embedding ``(B, n, dim)`` of a CPU, ``PIECE_ROWS`` rows at a time.

    The positions in the bins are twice as large as the result and nothing is done with them but one product each way.
    Made for a few rows they stay in the cache, and making them again costs less than fetching them from memory:
    measured at 8,192 rows of 60 columns, both ways, 84 ms become 45.
    """

    @staticmethod
    def forward(
        ctx: Any, x_num: Tensor, weight: Tensor, bias: Tensor, shifts: Tensor, scales: Tensor, bounds: Tensor
    ) -> Tensor:
        out = x_num.new_empty(len(x_num), len(weight), weight.shape[2])
        for x, part in zip(torch.split(x_num, PIECE_ROWS), torch.split(out, PIECE_ROWS), strict=True):
            embedded = torch.baddbmm(bias, _positions(x, shifts, scales, bounds), weight)
            torch.clamp_min(embedded.transpose(0, 1), 0.0, out=part)
        ctx.save_for_backward(x_num, out, shifts, scales, bounds)
        ctx.shapes = weight.shape, bias.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_num, out, *bins = ctx.saved_tensors
        weight_grad, bias_grad = (grad.new_zeros(shape) for shape in ctx.shapes)
        pieces = (torch.split(tensor, PIECE_ROWS) for tensor in (x_num, out, grad))
        for x, part, part_grad in zip(*pieces, strict=True):
            # the gradient of relu by its result: what it was given is not kept
            before_relu = torch.ops.aten.threshold_backward(part_grad, part, 0.0)
            weight_grad.baddbmm_(_positions(x, *bins).transpose(1, 2), before_relu.transpose(0, 1))
            bias_grad += before_relu.sum(dim=0).unsqueeze(1)
        return None, weight_grad, bias_grad, None, None, None


class CategoricalEmbedding(nn.Module):
    """Look all columns up in one table of ``sum(cardinalities)`` rows; the codes of a column start at its offset.

    The special codes begin at zero, the mean of the others, and stay there where train has none of them: an untrained
    vector would be noise that the layers above have never seen.

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
        # a vector's norm is about 1
        nn.init.normal_(self.table.weight, std=dim**-0.5)
        special = [
            range(start, start + min(SPECIAL_CODES, size))
            for start, size in zip(starts[:-1], cardinalities, strict=True)
        ]
        with torch.no_grad():
            self.table.weight[torch.tensor(list(chain.from_iterable(special)), dtype=torch.int64)] = 0.0

    def forward(self, x_cat: Tensor) -> Tensor:
        looked_up: Tensor = self.table(x_cat + self.offsets)
        return looked_up.flatten(1)


@runtime_checkable
class ColumnEmbedding(Protocol):
    """What turns columns into one vector ``(B, output_dim)`` a row and tells which column each number of it is of.

    ``sections`` are the numbers of each column in the order of the output, ``inputs`` which column that is: of
    ``x_num``, then of ``x_cat``.
    """

    sections: list[int]
    inputs: list[int]


class FeatureEmbedding(nn.Module):
    """Join numeric and categorical columns into one vector a row; either kind may have no column.

    ``embedding_dim`` numbers a column, fewer where there are so many columns that ``max_inputs`` would be exceeded.
    ``num_bins=0`` passes numbers on as they are. ``flags`` are columns of ``x_num`` that are 0 or 1: a curve over two
    values is a line, so that these are passed on as well. ``sections`` and ``inputs`` are those of ``ColumnEmbedding``.

    **Shape** ``x_num (B, n)``, ``x_cat (B, c)`` to ``(B, output_dim)``.

    >>> features = FeatureEmbedding(2, [3, 5], num_bins=4, embedding_dim=8)
    >>> features(torch.randn(7, 2), torch.zeros(7, 2, dtype=torch.int32)).shape == (7, features.output_dim)
    True
    """

    embedded: Tensor
    passed: Tensor

    def __init__(
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        *,
        num_bins: int | Literal["auto"],
        embedding_dim: int,
        flags: Sequence[int] = (),
        max_inputs: int = MAX_INPUTS,
    ) -> None:
        super().__init__()
        self.num_numeric, self.num_categorical = num_numeric, len(cardinalities)
        if self.num_numeric + self.num_categorical == 0:
            raise ValueError("a model needs at least one numeric or categorical column")
        if bad := [size for size in cardinalities if size < 1]:
            raise ValueError(f"cardinalities must be at least 1, got {bad[0]}")
        num_bins = FEW_BINS if num_bins == "auto" else num_bins  # built by hand, there are no rows to go by
        passed = sorted({*flags}) if num_bins else list(range(num_numeric))
        curved = [column for column in range(num_numeric) if column not in {*passed}]
        dim = max(1, min(embedding_dim, max_inputs // max(1, self.num_categorical + len(curved))))
        self.numeric = NumericEmbedding(len(curved), num_bins=num_bins, dim=dim) if curved else None
        self.categorical = CategoricalEmbedding(cardinalities, dim=dim) if cardinalities else None
        self.num_passed = len(passed)
        self.sections = [dim] * len(curved) + [1] * len(passed) + [dim] * self.num_categorical
        self.inputs = [*curved, *passed, *range(num_numeric, num_numeric + self.num_categorical)]
        self.output_dim = sum(self.sections)
        self.register_buffer("embedded", torch.tensor(curved, dtype=torch.int64), persistent=False)
        self.register_buffer("passed", torch.tensor(passed, dtype=torch.int64), persistent=False)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        self._check(x_num, x_cat)
        parts = []
        if self.numeric is not None:
            parts.append(self.numeric(x_num.index_select(1, self.embedded) if self.num_passed else x_num))
        if self.num_passed:
            parts.append(x_num if self.numeric is None else x_num.index_select(1, self.passed))
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
