"""RealMLP: a perceptron with periodic numeric embeddings, scaled inputs and its own parametrization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabstep.models.embeddings import SPECIAL_CODES, CategoricalEmbedding
from tabstep.models.linear import LinearModel, begin_as
from tabstep.option_types import Count, Depth, Doc, Fraction, Index, Positive, Switch

UNIT = 16.0
"""Published learning rates over those here: .04 is the .0025 that suits layers of 256 inputs in other models."""
SCALE_RATE, SLOW_RATE = 6.0 * UNIT, 0.1 * UNIT
"""Of the scales of the inputs, and of biases, activations and periodic embeddings."""


class NTKLinear(nn.Linear):
    """``x W / sqrt(inputs) + b`` with ``W`` of standard normal numbers: the neural tangent parametrization.

    ``weight`` is ``W / UNIT`` and ``bias`` is ``b / SLOW_RATE``. Biases begin as five random rows' outputs would have
    them ("he+5"), each weighed at random, for outputs that are standard normal: with a variance of 1/3.

    **Shape** ``(B, inputs)`` to ``(B, outputs)``.
    """

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=1.0 / UNIT)
        nn.init.normal_(self.bias, std=3.0**-0.5 / SLOW_RATE)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * (UNIT * self.in_features**-0.5), self.bias * SLOW_RATE)


class Scale(nn.Module):
    """One factor an input, stored as ``1 / SCALE_RATE`` of it. Those of ``special`` inputs begin at zero.

    **Shape** ``(B, n)`` to ``(B, n)``.
    """

    def __init__(self, size: int, *, special: Sequence[int] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), 1.0 / SCALE_RATE))
        with torch.no_grad():
            self.weight[list(special)] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.weight * SCALE_RATE)


class ParametricActivation(nn.Module):
    """``x + a (f(x) - x)`` with one ``a`` a unit, which begins at 1 and is stored as ``1 / SLOW_RATE`` of it.

    **Shape** ``(B, n)`` to ``(B, n)``.
    """

    def __init__(self, size: int, *, kind: Literal["selu", "mish"]) -> None:
        super().__init__()
        self.function = F.selu if kind == "selu" else F.mish
        self.weight = nn.Parameter(torch.full((size,), 1.0 / SLOW_RATE))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.function(x) - x, self.weight * SLOW_RATE)


class PeriodicEmbedding(nn.Module):
    """Each number, and ``dim - 1`` linear functions of ``cos(2 pi w x + b)``, of its own ``w`` and ``b`` ("PBLD").

    All four parameters are stored as ``1 / SLOW_RATE`` of what they mean.

    **Shape** ``(B, n)`` to ``(B, n * dim)``.
    """

    def __init__(self, num_numeric: int, *, frequencies: int, sigma: float, dim: int) -> None:
        super().__init__()
        self.output_dim = num_numeric * dim
        bound = frequencies**-0.5
        self.frequency = nn.Parameter(torch.randn(num_numeric, frequencies) * (sigma / SLOW_RATE))
        self.phase_bias = nn.Parameter(self._uniform(num_numeric, frequencies, bound=math.pi))
        self.weight = nn.Parameter(self._uniform(num_numeric, frequencies, dim - 1, bound=bound))
        self.bias = nn.Parameter(self._uniform(num_numeric, 1, dim - 1, bound=bound))

    @staticmethod
    def _uniform(*shape: int, bound: float) -> Tensor:
        return torch.empty(*shape).uniform_(-bound, bound) / SLOW_RATE

    def forward(self, x_num: Tensor) -> Tensor:
        phases = x_num.unsqueeze(2) * (self.frequency * (2.0 * math.pi * SLOW_RATE)) + self.phase_bias * SLOW_RATE
        curves = torch.baddbmm(self.bias * SLOW_RATE, phases.cos().transpose(0, 1), self.weight * SLOW_RATE)
        return torch.cat([x_num.unsqueeze(2), curves.transpose(0, 1)], dim=2).flatten(1)


class OneHot(nn.Module):
    """A number a value of each column, 1 for its own and 0 for others; of two values one number, 1 or -1.

    Missing and rare have a number too; an unseen value has none, and where train has no missing or rare value
    ``special``, the places of these, tells a scale layer to leave it out.

    **Shape** ``(B, c)`` of codes to ``(B, output_dim)``.
    """

    owners: Tensor
    ones: Tensor
    minus_ones: Tensor

    def __init__(self, cardinalities: Sequence[int]) -> None:
        super().__init__()
        owners, ones, minus_ones = [], [], []
        self.sections = []
        for column, size in enumerate(cardinalities):
            first, last = SPECIAL_CODES, size - 1
            pair = last - first == 1
            # missing and rare; unseen, which is between them, has no number
            codes = [code for code in (0, 2) if code < size] + ([first] if pair else [*range(first, size)])
            owners += [column] * len(codes)
            ones += codes
            minus_ones += [last if pair and code == first else -1 for code in codes]
            self.sections.append(len(codes))
        self.output_dim = len(ones)
        self.special = [place for place, code in enumerate(ones) if code < SPECIAL_CODES]
        self.register_buffer("owners", torch.tensor(owners, dtype=torch.int64), persistent=False)
        self.register_buffer("ones", torch.tensor(ones, dtype=torch.int32), persistent=False)
        self.register_buffer("minus_ones", torch.tensor(minus_ones, dtype=torch.int32), persistent=False)

    def forward(self, x_cat: Tensor) -> Tensor:
        codes = x_cat.index_select(1, self.owners)
        return (codes == self.ones).float() - (codes == self.minus_ones).float()


class Part(nn.Module):
    """Some columns through a layer, ``(B, n)`` to ``(B, size)``."""

    columns: Tensor

    def __init__(self, columns: Sequence[int], layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x.index_select(1, self.columns))
        return made


class MixedEmbedding(nn.Module):
    """Columns as one vector a row: numbers in waves, categories of up to ``one_hot`` values one-hot, others by a table.

    ``flags`` are numbers that stay as they are. ``sections`` and ``inputs`` are as in ``ColumnEmbedding``, ``special``
    as in ``OneHot``.

    **Shape** ``x_num (B, n)``, ``x_cat (B, c)`` to ``(B, output_dim)``.
    """

    def __init__(
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        *,
        frequencies: int,
        sigma: float,
        numeric_dim: int,
        one_hot: int,
        embedding_dim: int,
        flags: Sequence[int],
    ) -> None:
        super().__init__()
        passed = sorted({*flags}) if min(frequencies, numeric_dim - 1) > 0 else [*range(num_numeric)]
        curved = [column for column in range(num_numeric) if column not in {*passed}]
        few = [column for column, size in enumerate(cardinalities) if size <= one_hot + SPECIAL_CODES]
        many = [column for column in range(len(cardinalities)) if column not in {*few}]
        self.numbers, self.codes = nn.ModuleList(), nn.ModuleList()
        self.sections = [numeric_dim] * len(curved) + [1] * len(passed)
        self.special: list[int] = []
        if curved:
            waves = PeriodicEmbedding(len(curved), frequencies=frequencies, sigma=sigma, dim=numeric_dim)
            self.numbers.append(Part(curved, waves))
        if passed:
            self.numbers.append(Part(passed, nn.Identity()))
        if few:
            indicators = OneHot([cardinalities[column] for column in few])
            self.special = [sum(self.sections) + place for place in indicators.special]
            self.sections += indicators.sections
            self.codes.append(Part(few, indicators))
        if many:
            table = CategoricalEmbedding([cardinalities[column] for column in many], dim=embedding_dim)
            with torch.no_grad():
                table.table.weight.mul_(embedding_dim**0.5)  # standard normal numbers, as published
            self.sections += [embedding_dim] * len(many)
            self.codes.append(Part(many, table))
        self.inputs = [*curved, *passed, *(num_numeric + column for column in [*few, *many])]
        self.output_dim = sum(self.sections)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        parts = [part(x_num) for part in self.numbers] + [part(x_cat) for part in self.codes]
        return torch.cat(parts, dim=1)


class RealMLP(nn.Module):
    """RealMLP-TD of Holzmüller et al. 2024 (arXiv:2407.04491): ``depth`` blocks of linear, activation, dropout.

    Published learning rates are factors of one rate, which a parametrization expresses: Adam moves a parameter that is
    stored as ``p / rate`` as it would move ``p`` at ``rate`` times its learning rate. So ``optimizer=adamw
    optimizer.lr=0.0025`` has the published rate (.04) of every parameter, and default rates are .4 of them; Muon steps
    the linear layers by rates of its own. What a training does is not the model's and is left out: the schedule
    (coslog4), the decay of dropout and weight decay, label smoothing (``loss.label_smoothing=0.1``), ``beta2`` of .95;
    and what is fitted on train: numbers arrive as normal scores (no robust scaling, no smooth clipping), and weights
    and biases begin as suits standard normal inputs, where the paper scales them by the outputs of train.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` int32 or int64 to logits
    ``(B, num_outputs)``.

    >>> model = RealMLP(2, [5, 90], 3, width=16, depth=2)
    >>> model(torch.randn(7, 2), torch.zeros(7, 2, dtype=torch.int32)).shape
    torch.Size([7, 3])
    """

    def __init__(  # noqa: PLR0913 - facts of the table, then one argument for each key of conf/model/realmlp.yaml
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        width: Annotated[Count, Doc("units of a hidden layer")] = 256,
        depth: Annotated[Depth, Doc("hidden layers")] = 3,
        dropout: Fraction = 0.15,
        activation: Annotated[Literal["selu", "mish"], Doc("of the hidden layers, more or less of it a unit")] = "selu",
        frequencies: Annotated[Index, Doc("waves of a number's embedding; 0 feeds plain numbers")] = 16,
        sigma: Annotated[Positive, Doc("standard deviation of the waves' frequencies at the start")] = 0.1,
        numeric_dim: Annotated[Count, Doc("size of a number's embedding, the number itself among it")] = 4,
        one_hot: Annotated[Index, Doc("values up to which a categorical column is one-hot")] = 8,
        embedding_dim: Annotated[Count, Doc("size of the embedding of other categorical columns")] = 8,
        linear: Annotated[Switch, Doc("adds a linear model of the columns; auto: where rows are few")] = "auto",
        flags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.linear = LinearModel(num_numeric, cardinalities, num_outputs) if linear else None
        self.features = MixedEmbedding(
            num_numeric,
            cardinalities,
            frequencies=frequencies,
            sigma=sigma,
            numeric_dim=numeric_dim,
            one_hot=one_hot,
            embedding_dim=embedding_dim,
            flags=flags,
        )
        self.scale = Scale(self.features.output_dim, special=self.features.special)
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [
                NTKLinear(width if index else self.features.output_dim, width),
                ParametricActivation(width, kind=activation),
                nn.Dropout(dropout),
            ]
        self.backbone = nn.Sequential(*layers)
        self.head = NTKLinear(width, num_outputs)

    def begin_linear(self, fitted: LinearModel) -> None:
        """Start from a linear model that was fitted on train."""
        if self.linear is not None:
            begin_as(fitted, linear=self.linear, output=self.head.parameters())

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(self.scale(self.features(x_num, x_cat))))
        return logits if self.linear is None else logits + self.linear(x_num, x_cat)
