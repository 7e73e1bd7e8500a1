"""Keys of the group ``classifier``: what takes a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """What takes a training step: ours, or a subclass of it."""

    name: Literal["default"] = "default"
