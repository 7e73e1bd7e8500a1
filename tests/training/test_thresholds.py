from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from tabstep.decision_goal import Goal
from tabstep.training.thresholds import choose_threshold, cost, count_cells, figure, figures

ORACLES = {"accuracy": accuracy_score, "precision": precision_score, "recall": recall_score, "f1": f1_score}


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probs = rng.random(rows).round(1 if seed % 2 else 6).astype(np.float32)
    return probs, (rng.random(rows) < probs).astype(np.int64)


@example(rows=1, seed=7, threshold=0.6)  # the float32 next to 0.6 lies above it
@given(rows=st.integers(1, 60), seed=st.integers(0, 1_000), threshold=st.floats(0, 1))
def test_figures_are_those_of_scikit_learn(rows: int, seed: int, threshold: float) -> None:
    probs, y = drawn(rows, seed)
    cells = count_cells(probs, y, threshold)
    for name, oracle in ORACLES.items():
        options = {} if name == "accuracy" else {"zero_division": 0.0}
        taken = probs.astype(np.float64) > threshold
        assert figure(cells, name) == pytest.approx(oracle(y, taken, **options)), name


@pytest.mark.parametrize("name", ["accuracy", "f1", "cost"])
@given(rows=st.integers(1, 40), seed=st.integers(0, 1_000))
def test_no_other_threshold_is_better(name: str, rows: int, seed: int) -> None:
    probs, y = drawn(rows, seed)
    goal = Goal(name=name, fp=1.0, fn=3.0)  # type: ignore[arg-type]
    found = choose_threshold(probs, y, goal)
    assert found.reached

    def value(threshold: float) -> float:
        cells = count_cells(probs, y, threshold)
        return -float(cost(cells, goal)) if name == "cost" else float(figure(cells, name))

    tried = [value(threshold) for threshold in np.linspace(-0.001, 1.001, 500)]
    assert value(found.threshold) >= max(tried) - 1e-12


@pytest.mark.parametrize(("name", "other"), [("precision", recall_score), ("recall", precision_score)])
def test_a_floor_is_kept_at_the_best_of_the_other(name: str, other: object) -> None:
    probs, y = drawn(500, 4)
    found = choose_threshold(probs, y, Goal(name=name, floor=0.8))  # type: ignore[arg-type]
    assert found.reached
    assert figure(count_cells(probs, y, found.threshold), name) >= 0.8
    allowed = [t for t in np.unique(probs) if figure(count_cells(probs, y, t), name) >= 0.8]
    best = max(other(y, probs > t, zero_division=0.0) for t in allowed)  # type: ignore[operator]
    mine = other(y, probs > found.threshold, zero_division=0.0)  # type: ignore[operator]
    assert mine >= best - 1e-12


def test_a_floor_out_of_reach_is_said_and_the_highest_is_taken() -> None:
    probs, y = np.array([0.9, 0.8, 0.2]), np.array([0, 1, 0])
    found = choose_threshold(probs, y, Goal(name="precision", floor=0.9))
    assert not found.reached
    assert figure(count_cells(probs, y, found.threshold), "precision") == 0.5


def test_where_all_are_equal_it_stays_near_a_half() -> None:
    assert choose_threshold(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 1, 0, 0]), Goal(name="f1")).threshold == 0.55


def test_intervals_cover_the_truth() -> None:
    """Of 200 samples with a known accuracy of 0.8, about 95 % have it in their interval."""
    rng, goal = np.random.default_rng(0), Goal(name="accuracy")
    inside = 0
    for _ in range(200):
        cells = rng.multinomial(400, [0.4, 0.1, 0.1, 0.4]).astype(np.float64)
        low, high = figures(cells, goal)["intervals"]["accuracy"]
        inside += low <= 0.8 <= high
    assert 180 <= inside <= 199
