"""Whether a plain value fits its annotation, what to write instead, and how it is shown."""

from __future__ import annotations

import sys
from typing import Any, Literal, get_args, get_origin

from tabstep.config import key_types
from tabstep.errors import nearest

LARGEST = sys.float_info.max
LARGEST_WHOLE = 2**63 - 1
"""Beyond it no library takes a whole number: torch, NumPy and Arrow have 64 bits."""


def one_line(text: str) -> str:
    """Return a problem without the line breaks that a hostile key or value brings along."""
    return " ".join(text.splitlines())


def shown(value: Any) -> str:
    """Return a value as it would stand in YAML, shortened."""
    words = {True: "true", False: "false", None: "null"}
    text = words[value] if isinstance(value, bool) or value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def fits(member: Any, value: Any) -> bool:
    """Tell whether a plain value has the member's type and lies in its bounds."""
    base = key_types.bare(member)
    if get_origin(base) is Literal:
        return isinstance(value, str) and value in get_args(base)
    if base not in (int, float):
        return isinstance(base, type) and isinstance(value, base)
    number = int if base is int else (int, float)
    # Python's truth values are whole numbers, those of YAML are not
    return isinstance(value, number) and not isinstance(value, bool) and _within(member, value)


def _within(member: Any, value: float) -> bool:
    limits = key_types.bounds(member)
    return (
        # false for nan and inf too; the least whole number of 64 bits is -2**63
        (-LARGEST_WHOLE - 1 <= value <= LARGEST_WHOLE if key_types.bare(member) is int else abs(value) <= LARGEST)
        and (limits.ge is None or value >= limits.ge)
        and (limits.gt is None or value > limits.gt)
        and (limits.le is None or value <= limits.le)
        and (limits.lt is None or value < limits.lt)
    )


def remedy(annotation: Any, value: Any) -> str:
    """Return the remedy for a value of the wrong type or choice, or nothing."""
    bases = [key_types.bare(member) for member in key_types.members(annotation)]
    names = key_types.choices(annotation)
    if isinstance(value, bool) and (str in bases or names):
        return ": quote it, for YAML reads a bare yes, no, on, off, true or false as a truth value"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_hint(bases, value)
    if isinstance(value, str) and any(key_types.is_list(member) for member in bases) and not names:
        return f": write a list, [{value}]"
    if isinstance(value, str) and names:
        return f": {near}" if (near := nearest(value, names)).startswith("did") else ""
    return ""


def _number_hint(bases: list[Any], value: float) -> str:
    if int in bases and isinstance(value, int) and not -LARGEST_WHOLE - 1 <= value <= LARGEST_WHOLE:
        return f": the largest is {LARGEST_WHOLE}"
    if str in bases:
        return ": quote it, for YAML reads it as a number"
    if int in bases and isinstance(value, float) and value.is_integer():
        return f": write {int(value)}"
    return ""
