from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tabstep.system.ordered_map import ordered_map, usable_cores


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_results_come_in_the_order_of_the_pieces(workers: int | None) -> None:
    slow_first = threading.Event()

    def square(piece: int) -> int:
        if piece == 0 and workers not in (1, None):
            assert slow_first.wait(10)  # the others are done before it
        slow_first.set()
        return piece * piece

    assert list(ordered_map(square, range(20), workers=workers)) == [piece * piece for piece in range(20)]
    assert usable_cores() >= 1


def test_an_error_is_raised_in_its_turn() -> None:
    def refuse(piece: int) -> int:
        if piece >= 2:
            raise ValueError(piece)
        return piece

    results = ordered_map(refuse, range(10), workers=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match=r"^2$"):
        next(results)


def test_few_pieces_are_taken_ahead() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    results = ordered_map(lambda piece: piece, pieces(), workers=2)
    assert next(results) == 0
    assert len(taken) <= 3
