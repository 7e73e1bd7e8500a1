from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tabstep.sweep.distributions import Values
from tabstep.sweep.importance import importances, main_effect

GRID = [("1", "x", 1.0), ("1", "y", 2.0), ("2", "x", 5.0), ("2", "y", 6.0)]
DIMENSIONS = {"a": Values(("1", "2")), "b": Values(("x", "y")), "c": Values(("0",))}


def trials(rows: list[tuple[str, str, float]], state: str = "complete") -> list[Any]:
    return [SimpleNamespace(state=state, values=(z,), params={"a": a, "b": b, "c": "0"}) for a, b, z in rows]


def ledger(rows: list[Any]) -> Any:
    return SimpleNamespace(trials=rows, header=SimpleNamespace(sampler="grid", directions=("maximize",)))


def test_a_main_effect_is_the_variance_of_the_means() -> None:
    assert main_effect(trials(GRID), "a") == pytest.approx(((1.5 - 3.5) ** 2 + (5.5 - 3.5) ** 2) / 2)
    assert main_effect(trials(GRID), "b") == pytest.approx(((3 - 3.5) ** 2 + (4 - 3.5) ** 2) / 2)


def test_shares_of_a_grid_add_up_and_the_largest_comes_first() -> None:
    found = importances(ledger(trials(GRID)), DIMENSIONS)
    assert list(found) == ["a", "b"]
    assert found == pytest.approx({"a": 4 / 4.25, "b": 0.25 / 4.25})


def test_nothing_is_said_of_too_few_or_equal_trials() -> None:
    assert importances(ledger(trials(GRID[:3])), DIMENSIONS) == {}
    assert importances(ledger([*trials(GRID[:3]), *trials(GRID[3:], "failed")]), DIMENSIONS) == {}
    assert importances(ledger(trials([(a, b, 1.0) for a, b, _ in GRID])), DIMENSIONS) == {}
