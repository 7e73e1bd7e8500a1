"""Which network ``auto`` means: few rows want more members and a linear part, many rows want neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tabstep.models.embeddings import FEW_BINS
from tabstep.models.linear import LINEAR_ROWS
from tabstep.models.tabm import ALL_LINEAR_ROWS, MEMBERS

MANY_BINS: Final = 96
MANY_BINS_ROWS: Final = 50_000
"""Rows of train from which on a number has ``MANY_BINS``."""


def fit_to_rows(name: str, options: Mapping[str, Any], num_rows: int) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of one of our models for so many rows of train: no ``auto`` is left.

    Where rows are few but not fewest, half of the members have a linear part: an average that is near the better of the
    two, whether the truth is linear or not. Many rows fill more bins, which jagged functions want. A ``tabm`` for many
    rows becomes the ``mlp`` of the same sizes, which it would be with a single member.

    >>> fit_to_rows("tabm", {"members": "auto", "width": 64, "linear": "auto"}, 900)
    ('tabm', {'members': 32, 'width': 64, 'linear': 'half'})
    >>> fit_to_rows("tabm", {"members": "auto", "num_bins": "auto", "linear": "auto"}, 50_000)
    ('mlp', {'num_bins': 96, 'linear': False})
    """
    fitted = dict(options)
    if fitted.get("linear") == "auto":
        fitted["linear"] = num_rows < LINEAR_ROWS
        if name in ("pack", "tabm") and ALL_LINEAR_ROWS <= num_rows < LINEAR_ROWS:
            fitted["linear"] = "half"
    if fitted.get("num_bins") == "auto":
        fitted["num_bins"] = FEW_BINS if num_rows < MANY_BINS_ROWS else MANY_BINS
    if fitted.get("members") == "auto":
        members = next((members for members, below in MEMBERS.items() if num_rows < below), None)
        if members is None:
            del fitted["members"]
            return "mlp", fitted
        fitted["members"] = members
    return name, fitted


def rows_of_products(name: str, options: Mapping[str, Any], batch_size: int) -> int:
    """Return the rows of a hidden layer's product for so many rows of a batch: every member sees its own batch.

    >>> rows_of_products("tabm", {"members": 8}, 64), rows_of_products("mlp", {"width": 256}, 64)
    (512, 64)
    """
    return batch_size * int(options["members"]) if name == "tabm" else batch_size
