"""The graph of a model directory as ONNX: raw numbers and codes in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tabstep.artifact.member import Member
from tabstep.artifact.onnx_encoder import EncoderGraph
from tabstep.encoding.encoder import Encoder
from tabstep.models.probabilities import member_weights, pooled, probabilities


class PredictorGraph(nn.Module):
    """What ``Predictor.probabilities_of`` computes, from numbers and codes on.

    Members whose encoders are the same share its part of the graph.

    **Shape** ``numeric`` (B, n) float64, with NaN where missing, and ``categorical`` (B, c) int64, each None where the
    schema has no such column, to ``probabilities`` (B, classes) float32.
    """

    weights: Tensor

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        encoders: dict[str, Encoder] = {member.encoder.fingerprint(): member.encoder for member in members}
        self.encoders = nn.ModuleList(EncoderGraph(encoder) for encoder in encoders.values())
        self.encoder_of = [list(encoders).index(member.encoder.fingerprint()) for member in members]
        self.members = nn.ModuleList(_MemberGraph(member) for member in members)
        weights = torch.tensor([member.weight for member in members], dtype=torch.float64)
        self.register_buffer("weights", weights / weights.sum())

    def forward(self, numeric: Tensor | None = None, categorical: Tensor | None = None) -> Tensor:
        encoded = [encoder(numeric, categorical) for encoder in self.encoders]
        parts = [model(*encoded[place]) for model, place in zip(self.members, self.encoder_of, strict=True)]
        if len(parts) == 1:
            only: Tensor = parts[0]
            return only
        # in float64, as ``weighted_mean``
        return (torch.stack(parts, dim=2).double() * self.weights).sum(dim=2).float()


class _MemberGraph(nn.Module):
    """Model, temperature and probabilities of one member: ``x_num`` and ``x_cat`` to (B, classes)."""

    temperature: Tensor

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.task, self.model = member.encoder.task, member.model
        self.register_buffer("temperature", torch.tensor(member.temperature))

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits = pooled(self.model(x_num, x_cat), self.task, member_weights(self.model)) / self.temperature
        probs = probabilities(logits, self.task)
        return torch.stack([1.0 - probs, probs], dim=1) if self.task == "binary" else probs
