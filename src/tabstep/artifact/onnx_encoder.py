"""The encoder as a part of an ONNX graph: raw numbers and the codes of categories to what a model takes.

It computes what ``Encoder.transform`` does, with the fitted values of the same encoder, in operations that every ONNX
runtime has, and all columns of a kind at once. Values are float64 until they are scaled, as there: float32 has not
every second of this century.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from tabstep.artifact.onnx_search import Columns, Search
from tabstep.artifact.onnx_times import TimesGraph
from tabstep.encoding.categorical import MISSING, NUM_SPECIAL, RARE
from tabstep.encoding.encoder import Encoder
from tabstep.encoding.numeric import MAX_ROBUST, MAX_STANDARD, SOFT_LIMIT, NumericColumn
from tabstep.encoding.repeated_values import SpikeColumn
from tabstep.encoding.target_statistics import TargetStatistic


class EncoderGraph(nn.Module):
    """``Encoder.transform`` of tensors.

    **Shape** ``numeric`` (B, n) float64 and ``categorical`` (B, c) int64, each None where the schema has no such
    column, to ``x_num`` (B, num_numeric) float32 and ``x_cat`` (B, len(cardinalities)) int64.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        place = {column.name: index for index, column in enumerate(encoder.numeric)}
        self.scaled = _Scaled(encoder.numeric) if encoder.numeric else None
        self.indicators = Columns([index for index, column in enumerate(encoder.numeric) if column.indicator])
        self.spikes = _Spikes(encoder.spikes, place) if encoder.spikes else None
        self.times = TimesGraph(encoder.times, place) if encoder.times else None
        self.rates = _Rates(encoder.statistics) if encoder.statistics else None

    def forward(self, numeric: Tensor | None, categorical: Tensor | None) -> tuple[Tensor, Tensor]:
        numbers: list[Tensor] = []
        codes = [] if categorical is None else [categorical]
        if numeric is not None and self.scaled is not None:
            # in this form NaN is missing as well as the infinities
            missing = ~(numeric.abs() < math.inf)
            values = torch.where(missing, 0.0, numeric)
            numbers = [self.scaled(values, missing), self.indicators(missing).float()]
            if self.spikes is not None:
                codes.append(self.spikes(values, missing))
            if self.times is not None:
                inputs, parts = self.times(values, missing)
                numbers.append(inputs)
                codes.append(parts)
        given = categorical if numeric is None else numeric
        assert given is not None
        x_cat = torch.cat(codes, dim=1) if codes else given.new_zeros((given.shape[0], 0), dtype=torch.int64)
        if self.rates is not None:
            numbers.append(self.rates(x_cat))
        x_num = torch.cat(numbers, dim=1) if numbers else given.new_zeros((given.shape[0], 0), dtype=torch.float32)
        return x_num, x_cat


class _Scaled(nn.Module):
    """``NumericColumn.apply`` of all columns: ``(B, n)`` finite values, and where they are missing, to float32."""

    order: Tensor

    def __init__(self, columns: Sequence[NumericColumn]) -> None:
        super().__init__()
        groups = {kind: [i for i, column in enumerate(columns) if column.scaling == kind] for kind in _SCALINGS}
        groups = {kind: group for kind, group in groups.items() if group}
        constant = [index for index, column in enumerate(columns) if column.scaling == "constant"]
        self.constant = len(constant)
        self.chosen = nn.ModuleList(Columns(group) for group in groups.values())
        self.scalings = nn.ModuleList(
            _SCALINGS[kind]([columns[index] for index in group]) for kind, group in groups.items()
        )
        order = [*(index for group in groups.values() for index in group), *constant]
        # the inverse: from the groups back to the order of the columns
        self.register_buffer("order", torch.from_numpy(np.argsort(order)))

    def forward(self, values: Tensor, missing: Tensor) -> Tensor:
        parts = [scaling(chosen(values)) for chosen, scaling in zip(self.chosen, self.scalings, strict=True)]
        if self.constant:
            parts.append(values.new_zeros((values.shape[0], self.constant)))
        scaled = torch.cat(parts, dim=1).index_select(1, self.order)
        return torch.where(missing, 0.0, scaled).float()


class _Quantile(nn.Module):
    """``np.interp`` between knots, its rules for spans that no float64 holds included."""

    lines: Tensor
    ends: Tensor

    def __init__(self, columns: Sequence[NumericColumn]) -> None:
        super().__init__()
        knots = [np.array(column.knots) for column in columns]
        scores = [np.array(column.scores) for column in columns]
        with np.errstate(over="ignore", divide="ignore"):
            slopes = [np.append(np.diff(y) / np.diff(x), 0.0) for x, y in zip(knots, scores, strict=True)]
        following = [np.append(y[1:], y[-1]) for y in scores]
        self.search = Search(knots)
        lines = np.stack([np.concatenate(part) for part in (knots, scores, slopes, following)])
        ends = np.array([[x[0], x[-1], y[0], y[-1]] for x, y in zip(knots, scores, strict=True)])
        self.register_buffer("lines", torch.from_numpy(lines))
        self.register_buffer("ends", torch.from_numpy(ends.T.copy()))

    def forward(self, values: Tensor) -> Tensor:
        first, last, low, high = self.ends.unbind()
        values = torch.minimum(torch.maximum(values, first), last)
        place = self.search(values)
        knots, scores, slopes, following = (part[place] for part in self.lines.unbind())
        line = torch.where(values == knots, scores, slopes * (values - knots) + scores)
        # as np.interp, where an infinite slope times a distance of 0 is NaN
        line = torch.where(torch.isnan(line), following, line)
        return torch.minimum(torch.maximum(line, low), high)


class _Affine(nn.Module):
    """Distance from the center in units of the scale, at most ``most``."""

    most = MAX_STANDARD
    center: Tensor
    scale: Tensor

    def __init__(self, columns: Sequence[NumericColumn]) -> None:
        super().__init__()
        self.register_buffer("center", torch.tensor([column.center for column in columns], dtype=torch.float64))
        self.register_buffer("scale", torch.tensor([column.scale for column in columns], dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        return ((values - self.center) / self.scale).clamp(-self.most, self.most)


class _Robust(_Affine):
    most = MAX_ROBUST

    def forward(self, values: Tensor) -> Tensor:
        scaled = super().forward(values)
        return scaled / torch.sqrt(1.0 + (scaled / SOFT_LIMIT) ** 2)


_SCALINGS: Final[dict[str, Callable[[Sequence[NumericColumn]], nn.Module]]] = {
    "quantile": _Quantile,
    "robust": _Robust,
    "standard": _Affine,
}


class _Spikes(nn.Module):
    """``SpikeColumn.codes`` of some columns of ``(B, n)``, to ``(B, k)`` int64."""

    def __init__(self, columns: Sequence[SpikeColumn], place: dict[str, int]) -> None:
        super().__init__()
        self.chosen = Columns([place[column.name] for column in columns])
        self.search = Search([np.array(column.values) for column in columns])

    def forward(self, values: Tensor, missing: Tensor) -> Tensor:
        values = self.chosen(values)
        place = self.search(values)
        codes = torch.where(self.search.values[place] == values, place - self.search.starts + NUM_SPECIAL, RARE)
        return torch.where(self.chosen(missing), MISSING, codes)


class _Rates(nn.Module):
    """``TargetStatistic.inputs`` of ``x_cat``: what each combination has is known beforehand, and looked up."""

    columns: Tensor
    factors: Tensor
    table: Tensor
    unknown: Tensor

    def __init__(self, statistics: Sequence[TargetStatistic]) -> None:
        super().__init__()
        most = max(len(statistic.columns) for statistic in statistics)
        factors = [
            [math.prod(each.cardinalities[index + 1 :]) for index in range(len(each.columns))] for each in statistics
        ]
        columns = [[*statistic.columns, *[0] * (most - len(statistic.columns))] for statistic in statistics]
        self.search = Search([np.array(statistic.keys, dtype=np.int64) for statistic in statistics])
        tables = [statistic.table.astype(np.float32) for statistic in statistics]
        self.register_buffer("columns", torch.tensor(columns).flatten())
        # a factor of 0 takes the padding out of the sum
        self.register_buffer("factors", torch.tensor([[*each, *[0] * (most - len(each))] for each in factors]))
        self.register_buffer("table", torch.from_numpy(np.concatenate([table[:-1] for table in tables])))
        self.register_buffer("unknown", torch.from_numpy(np.stack([table[-1] for table in tables])))

    def forward(self, x_cat: Tensor) -> Tensor:
        digits = x_cat.index_select(1, self.columns).view(x_cat.shape[0], *self.factors.shape)
        keys = (digits * self.factors).sum(dim=2)
        place = self.search(keys)
        known = (self.search.values[place] == keys).unsqueeze(2)
        return torch.where(known, self.table[place], self.unknown).flatten(1)
