"""Types of options: bounds of a number and what a key means, as annotations that cost no import of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Range:
    """Bounds of a number: ``ge <= value``, ``gt < value``, ``value <= le``, ``value < lt``; None is open."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


@dataclass(frozen=True)
class Doc:
    """What a key means, in one phrase: the description in the JSON Schema."""

    text: str


Positive = Annotated[float, Range(gt=0)]
NonNegative = Annotated[float, Range(ge=0)]
Fraction = Annotated[float, Range(ge=0, lt=1)]
OpenFraction = Annotated[float, Range(gt=0, lt=1)]
Ratio = Annotated[float, Range(gt=0, le=1)]
Count = Annotated[int, Range(ge=1)]
Depth = Annotated[int, Range(ge=1, le=1000)]
"""Layers: they are built one by one, so that a slip of zeros would take hours."""
Index = Annotated[int, Range(ge=0)]
Switch = bool | Literal["auto"]
Bins = Annotated[
    Literal["auto"] | Index, Doc("bins of a piecewise-linear numeric embedding; 0 feeds plain numbers; auto: by rows")
]
