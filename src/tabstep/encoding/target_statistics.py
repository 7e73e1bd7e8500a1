"""What the target was where train had the same category, or the same two or three of them: rates and counts as numbers.

An embedding learns a category of many rows by itself, and so do the layers above with a combination of many rows: on
adult, where 700 rows and more share a combination, rates took 1.5 times the time and changed nothing. Of rarer
combinations they form few, and a category of few rows gets a vector of noise; a smoothed rate says both at once. Rows
of train get the rates of the other folds, since a rate that holds the row's own label tells it; all other rows get
those of the whole of train.

Measured on nine categorical columns of up to 7,500 values (33,000 rows, test AUROC): 0.859 from embeddings alone, 0.866
with rates of single columns, 0.906 with those of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tabstep.encoding.out_of_fold import ALPHA

MAX_OUTPUTS: Final = 32
"""A task of more classes has no statistics: each has an input for every class."""
# standard deviations
_LIMIT: Final = 6.0


@dataclass(frozen=True, kw_only=True)
class TargetStatistic:
    """Rates of the target and counts of rows, for each combination of the codes of ``columns``.

    ``keys`` are the combinations, as one number each, ascending; ``counts`` their rows; ``sums`` the targets in these
    rows, a tuple for each output. ``centers`` and ``scales`` bring the inputs near a standard normal: first the logit
    of each output's rate, then the logarithm of the count. ``gain`` is the share of the squared error that the rates
    took away in folds that they had not seen.

    >>> statistic = TargetStatistic(
    ...     columns=(0,), cardinalities=(5,), keys=(3, 4), counts=(30, 10), sums=((30, 0),), priors=(0.5,),
    ...     centers=(0.0, 0.0), scales=(1.0, 1.0), gain=0.1,
    ... )
    >>> statistic.inputs(np.array([[3], [4], [1]])).round(2).tolist()
    [[1.95, 3.43], [-1.1, 2.4], [0.0, 0.0]]
    """

    columns: tuple[int, ...]
    cardinalities: tuple[int, ...]
    keys: tuple[int, ...]
    counts: tuple[int, ...]
    sums: tuple[tuple[int, ...], ...]
    priors: tuple[float, ...]
    centers: tuple[float, ...]
    scales: tuple[float, ...]
    gain: float

    @property
    def width(self) -> int:
        """Number of inputs."""
        return len(self.centers)

    def inputs(self, codes: np.ndarray) -> np.ndarray:
        """Return ``(n, width)`` float64 of ``(n, c)`` codes of all columns; an unknown combination has the prior."""
        place = self.places(codes)
        return self.scaled(self._totals[place, 0], self._totals[place, 1:])

    @property
    def table(self) -> np.ndarray:
        """The inputs ``(len(keys) + 1, width)`` of each combination, and last those of one that is not there."""
        return self.scaled(self._totals[:, 0], self._totals[:, 1:])

    def places(self, codes: np.ndarray) -> np.ndarray:
        """Return ``(n,)`` positions in ``keys``, ``len(keys)`` for a combination that is not there."""
        # digits: 10,003 codes of each of three columns fit into 64 bits
        keys = combined(codes, self.columns, self.cardinalities)
        place = np.searchsorted(self._keys, keys)
        # the last place may be one behind the end
        return np.where(self._keys[np.minimum(place, len(self.keys) - 1)] == keys, place, len(self.keys))

    def scaled(self, counts: np.ndarray, sums: np.ndarray, *, share: float = 1.0) -> np.ndarray:
        """Return the inputs ``(n, width)`` of ``counts`` ``(n,)`` and ``sums`` ``(n, outputs)`` of a share of train."""
        raw = raw_inputs(counts, sums, np.array(self.priors), share)
        scaled: np.ndarray = ((raw - np.array(self.centers)) / np.array(self.scales)).clip(-_LIMIT, _LIMIT)
        return scaled

    @cached_property
    def _keys(self) -> np.ndarray:
        return np.array(self.keys, dtype=np.int64)

    @cached_property
    def _totals(self) -> np.ndarray:
        """Count and sums of each combination, and a row of zeros for all others."""
        return np.column_stack([np.array((*values, 0), dtype=np.float64) for values in (self.counts, *self.sums)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TargetStatistic:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        plain: dict[str, Any] = {name: tuple(value) for name, value in data.items() if name != "gain"}
        return cls(**{**plain, "sums": tuple(map(tuple, data["sums"])), "gain": data["gain"]})


def combined(codes: np.ndarray, columns: Sequence[int], cardinalities: Sequence[int]) -> np.ndarray:
    """Return ``(n,)`` int64: the codes of ``columns`` as the digits of one number.

    >>> combined(np.array([[1, 2, 3]]), (0, 2), (10, 10)).tolist()
    [13]
    """
    keys = codes[:, columns[0]].astype(np.int64)
    for column, cardinality in zip(columns[1:], cardinalities[1:], strict=True):
        keys = keys * cardinality + codes[:, column]
    return keys


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of ``(n,)`` int64 in the order they come in, and the place of each: a fifth of a sort.

    >>> [part.tolist() for part in distinct(np.array([7, 3, 7]))]
    [[7, 3], [0, 1, 0]]
    """
    encoded = pa.array(keys).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy()


def raw_inputs(counts: np.ndarray, sums: np.ndarray, priors: np.ndarray, share: float) -> np.ndarray:
    """Return the logits of the rates, then the logarithm of the count that the whole of train would have."""
    rates = (sums + ALPHA * priors) / (counts[:, None] + ALPHA)
    return np.column_stack([np.log(rates / (1.0 - rates)), np.log1p(counts / share)])
