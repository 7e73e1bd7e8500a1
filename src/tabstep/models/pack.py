"""A pack of perceptrons of several sizes, of which those that help each other on val are averaged."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import torch
from torch import Tensor, nn

from tabstep.models.embeddings import FeatureEmbedding
from tabstep.models.linear import LinearModel, begin_as
from tabstep.option_types import Count, Doc, Fraction, Index, Switch

Number = TypeVar("Number", int, float)
SIZES = (0.5, 1.0, 1.5)
"""What a member's width is a multiple of."""
DEPTHS = (-1, 0, 1)
DROPOUTS = (0, 1, 2, 4)
"""How often a member's dropout is applied: ``1 - (1 - dropout) ** times`` of the units are dropped."""
EMBEDDINGS = (0.5, 1.0, 2.0)
"""What the bins and the sizes of a member's embeddings are multiples of."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Those of one member."""

    width: int
    depth: int
    dropout: float
    num_bins: int
    embedding_dim: int


def drawn(first: Hyperparameters, members: int, *, draw: int) -> list[Hyperparameters]:
    """Return ``first``, then members that differ from it in everything by chance, the same for the same ``draw``.

    A pack of more members begins with those of fewer. ``random.random`` is the one generator whose numbers Python
    promises to keep, and a stored model is built again from them.

    >>> small = Hyperparameters(width=8, depth=1, dropout=0.1, num_bins=4, embedding_dim=4)
    >>> [(each.width, each.depth) for each in drawn(small, 4, draw=1)]
    [(8, 1), (4, 2), (8, 1), (12, 1)]
    """
    chance = random.Random(draw)
    widths, depths, dropouts = _dealt(SIZES, chance), _dealt(DEPTHS, chance), _dealt(DROPOUTS, chance)
    bins, dims = _dealt(EMBEDDINGS, chance), _dealt(EMBEDDINGS, chance)
    return [first] + [
        Hyperparameters(
            width=_multiple(first.width, next(widths)),
            depth=max(1, first.depth + next(depths)),
            dropout=1.0 - (1.0 - first.dropout) ** next(dropouts),
            num_bins=_multiple(first.num_bins, next(bins)) if first.num_bins else 0,
            embedding_dim=_multiple(first.embedding_dim, next(dims)),
        )
        for _ in range(members - 1)
    ]


def _dealt(values: Sequence[Number], chance: random.Random) -> Iterator[Number]:
    """Yield the values in a random order, again and again: a few members have as many of each as can be."""
    while True:
        deck = list(values)
        while deck:
            yield deck.pop(int(chance.random() * len(deck)))


def _multiple(size: int, factor: float) -> int:
    return max(1, round(size * factor))


class PackEmbedding(nn.Module):
    """The embedded columns of every member beside one another; ``sections`` and ``inputs`` as in ``ColumnEmbedding``.

    **Shape** ``x_num (B, n)``, ``x_cat (B, c)`` to ``(B, sum(sizes))``.
    """

    def __init__(
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        members: Sequence[Hyperparameters],
        *,
        flags: Sequence[int],
    ) -> None:
        super().__init__()
        parts = [
            FeatureEmbedding(
                num_numeric, cardinalities, num_bins=each.num_bins, embedding_dim=each.embedding_dim, flags=flags
            )
            for each in members
        ]
        self.parts = nn.ModuleList(parts)
        self.sizes = [part.output_dim for part in parts]
        self.sections = [size for part in parts for size in part.sections]
        self.inputs = [column for part in parts for column in part.inputs]

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return torch.cat([part(x_num, x_cat) for part in self.parts], dim=1)


class Pack(nn.Module):
    """``members`` perceptrons like ``MLP``, each with embeddings and hyperparameters of its own.

    The first has those that are given; the width, depth, dropout, bins and size of embeddings of the others are drawn
    around them. All learn at one rate, for they are exported from one epoch: with half or twice the rate they would be
    behind or past their best. The loss is the mean of theirs. ``member_weights`` says how often each counts in the mean
    of the probabilities: once, until it is known from val.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` int32 or int64 to logits
    ``(B, members, num_outputs)``.

    >>> model = Pack(2, [5, 9], 3, members=4, width=16, num_bins=4)
    >>> model(torch.randn(7, 2), torch.zeros(7, 2, dtype=torch.int32)).shape
    torch.Size([7, 4, 3])
    >>> model.member_weights
    tensor([1., 1., 1., 1.])
    """

    member_weights: Tensor

    def __init__(  # noqa: PLR0913 - facts of the table, then one argument for each key of conf/model/pack.yaml
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        members: Annotated[
            Count, Doc("perceptrons of several sizes, of which val chooses those that are averaged")
        ] = 8,
        draw: Annotated[Index, Doc("number from which the members' hyperparameters are drawn")] = 1,
        width: Annotated[Count, Doc("units of a hidden layer")] = 256,
        depth: Annotated[Count, Doc("hidden layers")] = 2,
        dropout: Fraction = 0.1,
        num_bins: Annotated[Index, Doc("bins of a piecewise-linear numeric embedding; 0 feeds plain numbers")] = 32,
        embedding_dim: Annotated[Count, Doc("largest size of a column's embedding")] = 16,
        linear: Annotated[
            Switch | Literal["half"],
            Doc("adds a linear model of the columns; half: to half of the members; auto: by rows"),
        ] = "auto",
        flags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        first = Hyperparameters(
            width=width, depth=depth, dropout=dropout, num_bins=num_bins, embedding_dim=embedding_dim
        )
        self.hyperparameters = drawn(first, members, draw=draw)
        self.linear = LinearModel(num_numeric, cardinalities, num_outputs) if linear else None
        self.num_linear = (members + 1) // 2 if linear == "half" else members
        self.features = PackEmbedding(num_numeric, cardinalities, self.hyperparameters, flags=flags)
        pairs = zip(self.features.sizes, self.hyperparameters, strict=True)
        self.backbones = nn.ModuleList(_backbone(inputs, each) for inputs, each in pairs)
        self.head = nn.ModuleList(nn.Linear(each.width, num_outputs) for each in self.hyperparameters)
        self.register_buffer("member_weights", torch.ones(members))

    def begin_linear(self, fitted: LinearModel) -> None:
        """Start from a linear model that was fitted on train."""
        if self.linear is not None:
            begin_as(fitted, linear=self.linear, output=self.head[: self.num_linear].parameters())

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        features = self.features(x_num, x_cat).split(self.features.sizes, dim=1)
        members = zip(self.head, self.backbones, features, strict=True)
        logits = [head(backbone(x)) for head, backbone, x in members]
        if self.linear is not None:
            linear = self.linear(x_num, x_cat)
            logits[: self.num_linear] = [each + linear for each in logits[: self.num_linear]]
        return torch.stack(logits, dim=1)


def _backbone(inputs: int, each: Hyperparameters) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(each.depth):
        layers += [nn.Linear(each.width if index else inputs, each.width), nn.ReLU(), nn.Dropout(each.dropout)]
    return nn.Sequential(*layers)
