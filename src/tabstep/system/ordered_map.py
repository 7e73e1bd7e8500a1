"""A function over many pieces on all cores, its results in the order of the pieces: the same with any number of cores.

Threads, since what is called (Arrow, numpy) lets go of the interpreter while it works, and nothing is copied to them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_MOST: Final = 8
"""Threads that are used at most: one reader feeds no more, and each holds a piece in memory."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    # macOS and Windows know no affinity
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Piece], Result], pieces: Iterable[Piece], *, workers: int | None = None
) -> Iterator[Result]:
    """Yield ``function(piece)`` for each of ``pieces``, in their order; at most ``workers + 1`` are in memory.

    ``workers`` are threads, by default one a core, up to eight; 1 calls the function where it stands. What a piece
    raises is raised in its turn, after the results of those before it.

    >>> list(ordered_map(lambda piece: piece * piece, range(4), workers=2))
    [0, 1, 4, 9]
    """
    count = min(_MOST, usable_cores()) if workers is None else workers
    if count <= 1:
        yield from map(function, pieces)
        return
    pool = ThreadPoolExecutor(max_workers=count)
    waiting: deque[Future[Result]] = deque()
    try:
        for piece in pieces:
            waiting.append(pool.submit(function, piece))
            del piece  # the thread alone holds it now
            # one more than there are threads: none waits while the caller is busy with a result
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
