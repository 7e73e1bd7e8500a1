"""TabM: many multilayer perceptrons in one, which share their weights but for multiplicative adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from tabstep.models.embeddings import FeatureEmbedding
from tabstep.models.linear import LinearModel, begin_as
from tabstep.option_types import Bins, Count, Depth, Doc, Fraction, Switch

MEMBERS = {32: 1_000, 8: 16_000}
"""Members, and the rows of train below which they pay for their time; above, one perceptron is nearly as good."""
ALL_LINEAR_ROWS = 500
"""Rows of train below which every member has the linear part; up to ``LINEAR_ROWS`` half of them, for either truth."""


class MemberLinear(nn.Module):
    """One linear layer of every member ``i``: ``W (x * r_i) * s_i + b_i``, with ``W`` shared by all.

    BatchEnsemble (Wen et al. 2020, arXiv:2002.06715) in the form of Gorishniy et al. 2024 (arXiv:2410.24210), section
    3.3: the adapters ``r`` and ``s`` begin at one, and the bias at one draw for all members.

    **Shape** ``(B, members, inputs)`` to ``(B, members, outputs)``.
    """

    def __init__(self, inputs: int, outputs: int, *, members: int) -> None:
        super().__init__()
        shared = nn.Linear(inputs, outputs)
        self.input_scale = nn.Parameter(torch.ones(members, inputs))
        self.output_scale = nn.Parameter(torch.ones(members, outputs))
        self.bias = nn.Parameter(shared.bias.detach().repeat(members, 1))
        # each member has one of its own, above
        shared.register_parameter("bias", None)
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.shared(x * self.input_scale)
        return torch.addcmul(self.bias, hidden, self.output_scale)


class MemberHead(nn.Module):
    """A linear layer of each member's own.

    **Shape** ``(B, members, inputs)`` to ``(B, members, outputs)``.
    """

    def __init__(self, inputs: int, outputs: int, *, members: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias.unsqueeze(1), x.transpose(0, 1), self.weight).transpose(0, 1)


class TabM(nn.Module):
    """``members`` perceptrons of ``depth`` blocks of linear, ReLU, dropout over shared embeddings, each with its head.

    Gorishniy et al. 2024 (arXiv:2410.24210). What sets the members apart at first are their heads and the adapter of
    their input, one normal number for each column (a sign, where numbers are not embedded). The loss is the mean of
    the members' losses, the probabilities are the mean of theirs. All members see the same batch and their own dropout.

    **Shape** ``x_num (B, num_numeric)`` float, ``x_cat (B, len(cardinalities))`` int32 or int64 to logits
    ``(B, members, num_outputs)``.

    >>> options = dict(members=4, width=16, depth=2, dropout=0.1, num_bins=4, embedding_dim=8)
    >>> TabM(2, [5, 9], 3, **options)(torch.randn(7, 2), torch.zeros(7, 2, dtype=torch.int32)).shape
    torch.Size([7, 4, 3])
    """

    def __init__(  # noqa: PLR0913 - facts of the table, then one argument for each key of conf/model/tabm.yaml
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        num_outputs: int,
        *,
        members: Annotated[
            Literal["auto"] | Count,
            Doc("perceptrons whose probabilities are averaged; auto: 32, 8, or an mlp, by rows"),
        ] = "auto",
        width: Annotated[Count, Doc("units of a hidden layer")] = 256,
        depth: Annotated[Depth, Doc("hidden layers")] = 2,
        dropout: Fraction = 0.1,
        num_bins: Bins = "auto",
        embedding_dim: Annotated[Count, Doc("largest size of a column's embedding")] = 16,
        linear: Annotated[
            Switch | Literal["half"],
            Doc("adds a linear model of the columns; half: to half of the members; auto: by rows"),
        ] = "auto",
        flags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        # built by hand, there are no rows to go by: the smaller number
        self.members: int = min(MEMBERS) if members == "auto" else members
        self.linear = LinearModel(num_numeric, cardinalities, num_outputs) if linear else None
        self.features = FeatureEmbedding(
            num_numeric, cardinalities, num_bins=num_bins, embedding_dim=embedding_dim, flags=flags
        )
        layers: list[nn.Module] = []
        for index in range(depth):
            inputs = width if index else self.features.output_dim
            layers += [MemberLinear(inputs, width, members=self.members), nn.ReLU(), nn.Dropout(dropout)]
        self.backbone = nn.Sequential(*layers)
        self.num_linear = (self.members + 1) // 2 if linear == "half" else self.members
        self.head = MemberHead(width, num_outputs, members=self.members)
        self._tell_apart()

    @torch.no_grad()
    def _tell_apart(self) -> None:
        """Give every member its own view of the columns: all numbers of a column's embedding are scaled alike."""
        first = self.backbone[0]
        assert isinstance(first, MemberLinear)
        sections = torch.tensor(self.features.sections)
        drawn = torch.randn(self.members, len(sections))
        plain = sections == 1 if self.features.num_passed else torch.zeros_like(sections, dtype=torch.bool)
        drawn = torch.where(plain, drawn.sign(), drawn)
        first.input_scale.copy_(drawn.repeat_interleave(sections, dim=1))

    def begin_linear(self, fitted: LinearModel) -> None:
        """Start from a linear model that was fitted on train."""
        if self.linear is not None:
            begin_as(fitted, linear=self.linear, output=[part[: self.num_linear] for part in self.head.parameters()])

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        # no copies: the adapters make the members' views
        features = self.features(x_num, x_cat).unsqueeze(1).expand(-1, self.members, -1)
        logits: Tensor = self.head(self.backbone(features))
        if self.linear is None:
            return logits
        linear: Tensor = self.linear(x_num, x_cat).unsqueeze(1)
        if self.num_linear == self.members:
            return logits + linear
        return torch.cat([logits[:, : self.num_linear] + linear, logits[:, self.num_linear :]], dim=1)
