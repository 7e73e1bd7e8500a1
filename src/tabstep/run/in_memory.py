"""Whether the encoded rows of a run lie in memory or stay on disk, by their size and what this machine has free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from tabstep.system.memory import available_memory

SHARE: Final = 0.5
"""Of the memory that is free: the rest is for the model, for what a step needs and for other programs."""
_SAID_FROM: Final = 2**30


def held_in_memory(wanted: Literal["auto"] | bool, size: int, show: Callable[[str], None]) -> bool:
    """Decide for all splits of ``size`` bytes together, and say what was decided where it is not a matter of course."""
    if wanted != "auto":
        if not wanted:
            show(f"data.in_memory=false: {_gib(size)} of encoded rows stay on disk and are read window by window")
        return wanted
    available = available_memory()
    held = size <= SHARE * available
    if not held or size >= _SAID_FROM:
        where = "lie in memory" if held else "stay on disk and are read window by window"
        show(f"data.in_memory=auto: {_gib(size)} of encoded rows {where}, {_gib(available)} of memory are free")
    return held


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
