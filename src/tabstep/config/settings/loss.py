"""Keys of the group ``loss``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tabstep.option_types import Doc, Fraction, NonNegative, Positive


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """``auto`` is cross-entropy, or BCE-with-logits for a multilabel task."""

    name: Literal["auto", "cross_entropy", "bce", "focal"] = "auto"
    class_weights: Annotated[
        Literal["balanced"] | list[Positive] | None, Doc("weight of each class, in their order")
    ] = None
    label_smoothing: Fraction = 0.0
    focal_gamma: Annotated[NonNegative, Doc("how strongly the focal loss discounts easy rows")] = 2.0
