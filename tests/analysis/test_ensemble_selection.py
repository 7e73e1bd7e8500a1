from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tabstep.analysis.ensemble_selection import select
from tabstep.tables.ranking import auroc

Parts = list[NDArray[np.float32]]


@st.composite
def libraries(draw: st.DrawFn) -> tuple[Parts, NDArray[np.bool_]]:
    rows, count = draw(st.integers(2, 12)), draw(st.integers(1, 5))
    cells = st.floats(0, 1, width=32)
    parts = [np.array(draw(st.lists(cells, min_size=rows, max_size=rows)), dtype=np.float32) for _ in range(count)]
    truth = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    return parts, truth


def mean(parts: Parts, counts: dict[int, int]) -> NDArray[np.float32]:
    total = sum(count * parts[index].astype(np.float64) for index, count in counts.items())
    return np.asarray(total / sum(counts.values()), dtype=np.float32)


@given(libraries(), st.integers(1, 8))
def test_mean_is_never_worse_than_the_best_single_one(library: tuple[Parts, NDArray[np.bool_]], rounds: int) -> None:
    parts, truth = library
    counts = select(parts, lambda probs: auroc(probs, truth), rounds=rounds)
    if truth.all() or not truth.any():
        assert counts == {}
        return
    assert 1 <= sum(counts.values()) <= rounds
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert auroc(mean(parts, counts), truth) >= max(auroc(part, truth) for part in parts)


@given(libraries())
def test_two_rounds_are_the_best_pair_with_the_best_one(library: tuple[Parts, NDArray[np.bool_]]) -> None:
    parts, truth = library

    def score(probs: NDArray[np.float32]) -> float:
        return -float(((probs - truth) ** 2).sum(dtype=np.float64))

    first = max(range(len(parts)), key=lambda index: (score(parts[index]), -index))
    pairs = {
        other: score(((parts[first].astype(np.float64) + parts[other]) / 2).astype(np.float32))
        for other in range(len(parts))
    }
    best = max(pairs, key=lambda index: (pairs[index], -index))
    counts = select(parts, score, rounds=2)
    if pairs[best] > score(parts[first]):
        assert counts == ({first: 2} if best == first else dict.fromkeys(sorted([first, best]), 1))
    else:
        assert counts == {first: 1}


def test_one_that_errs_elsewhere_is_taken_and_a_copy_is_not() -> None:
    truth = np.array([1, 1, 0, 0], dtype=np.float32)
    parts = [np.float32([0.9, 0.4, 0.1, 0.1]), np.float32([0.4, 0.9, 0.1, 0.1]), np.float32([0.4, 0.3, 0.6, 0.1])]
    counts = select([*parts, parts[0]], lambda probs: -float(np.abs(probs - truth).max()), rounds=10)
    assert counts == {0: 1, 1: 1}


@pytest.mark.parametrize("rounds", [1, 3])
def test_nan_is_never_chosen(rounds: int) -> None:
    parts = [np.float32([math.nan]), np.float32([0.5])]
    for order in ([0, 1], [1, 0]):
        counts = select([parts[index] for index in order], lambda probs: float(probs[0]), rounds=rounds)
        assert counts == {order.index(1): 1}
    assert select(parts[:1], lambda probs: float(probs[0]), rounds=rounds) == {}


def test_weights_can_be_as_fine_as_the_rounds() -> None:
    parts = [np.float32([0.0]), np.float32([1.0])]
    for zeros, ones in product(range(1, 4), repeat=2):
        target = ones / (zeros + ones)
        counts = select(parts, lambda probs, target=target: -abs(float(probs[0]) - target), rounds=30)  # type: ignore[misc]
        assert counts[1] / sum(counts.values()) == pytest.approx(target)
