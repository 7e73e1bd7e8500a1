"""Decision goals: what a threshold on a probability is chosen for, as ``decision=`` says it. No torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from tabstep.errors import UserError

Name = Literal["accuracy", "f1", "precision", "recall", "cost"]
_FLOOR = re.compile(r"(precision|recall)\s*>=\s*([0-9.eE+-]+)")
_COST = re.compile(r"cost\s*=\s*\{(.*)\}")
_FORMS = "accuracy, f1, precision>=0.9, recall>=0.8 or cost={fp: 1, fn: 20}"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``accuracy`` and ``f1`` are made as high as they get, ``cost`` (``fp`` and ``fn`` a row) as low.

    ``precision`` must reach ``floor``, with a recall as high as it gets then; ``recall`` likewise.
    """

    name: Name
    floor: float = 0.0
    fp: float = 1.0
    fn: float = 1.0


def check_decision(decision: str | None, task: str) -> None:
    """Raise ``UserError`` where a task has no threshold to choose."""
    if decision is not None and task == "multiclass":
        raise UserError("decision: several classes have no threshold, the likeliest is predicted: set decision=null")


def parse_goal(text: str) -> Goal:
    """Read a goal.

    Raises:
        ValueError: it has none of the forms; the message says which there are.

    >>> parse_goal("f1").name, parse_goal("precision>=0.9").floor, parse_goal("cost={fp: 1, fn: 20}").fn
    ('f1', 0.9, 20.0)
    """
    stripped = text.strip()
    if stripped in ("accuracy", "f1"):
        return Goal(name="f1" if stripped == "f1" else "accuracy")
    if match := _FLOOR.fullmatch(stripped):
        return _with_floor(match[1], match[2], text)
    if match := _COST.fullmatch(stripped):
        return _with_costs(match[1], text)
    raise ValueError(f"{text!r} is no goal: choose {_FORMS}")


def _with_floor(name: str, floor: str, text: str) -> Goal:
    value = _number(floor)
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} lies between 0 and 1, got {text!r}")
    return Goal(name="precision" if name == "precision" else "recall", floor=value)


def _with_costs(inside: str, text: str) -> Goal:
    pairs = dict(pair.partition(":")[::2] for pair in inside.split(","))
    costs = {key.strip(): _number(value) for key, value in pairs.items()}
    if set(costs) != {"fp", "fn"} or not all(0.0 < value < math.inf for value in costs.values()):
        raise ValueError(f"cost needs a positive number for each of fp and fn, as cost={{fp: 1, fn: 20}}, got {text!r}")
    return Goal(name="cost", fp=costs["fp"], fn=costs["fn"])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
