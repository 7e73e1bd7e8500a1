"""Searches in the columns of a table, of which ONNX has none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Columns(nn.Module):
    """Some columns of a matrix.

    >>> Columns([2, 0])(torch.tensor([[1, 2, 3]])).tolist()
    [[3, 1]]
    """

    index: Tensor

    def __init__(self, columns: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(list(columns), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index)


class Search(nn.Module):
    """The place of the last value that is not above a number, by halving, in a list of ascending values a column.

    The lists lie in ``values`` one after the other, each from its number in ``starts`` on, and places are those in
    ``values``; a number below the first value has that one's place.

    **Shape** ``(B, k)`` to ``(B, k)`` int64, for ``k`` lists.

    >>> Search([np.array([1.0, 5.0]), np.array([2.0])])(torch.tensor([[7.0, 2.0], [0.0, 3.0]]).double()).tolist()
    [[1, 2], [0, 2]]
    """

    values: Tensor
    starts: Tensor
    sizes: Tensor

    def __init__(self, lists: Sequence[np.ndarray]) -> None:
        super().__init__()
        sizes = [len(each) for each in lists]
        self.bits = max(sizes).bit_length()
        self.total = sum(sizes)
        self.register_buffer("values", torch.from_numpy(np.concatenate(lists)))
        self.register_buffer("starts", torch.from_numpy(np.cumsum([0, *sizes[:-1]])))
        self.register_buffer("sizes", torch.tensor(sizes))

    def forward(self, x: Tensor) -> Tensor:
        found = torch.zeros_like(x, dtype=torch.int64)
        for bit in reversed(range(self.bits)):
            more = found + (1 << bit)
            # a place behind a list may be looked at: the sizes keep it from being taken
            value = self.values[(self.starts + more - 1).clamp_max(self.total - 1)]
            found = torch.where((more <= self.sizes) & (value <= x), more, found)
        return self.starts + (found - 1).clamp_min(0)
