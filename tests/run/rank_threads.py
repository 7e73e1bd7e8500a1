"""Ranks as threads of one process, that meet as processes do: what they tell each other is copied on its way."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any, TypeVar

from tabstep.system.rank_exchange import Meeting
from tabstep.system.ranks import Ranks

T = TypeVar("T")


class RankThreads:
    """So many ranks, one a machine."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._told: list[Any] = [None] * size
        self._barrier = Barrier(size, timeout=60)

    @contextmanager
    def meeting(self, ranks: Ranks) -> Iterator[Meeting]:
        yield _ThreadMeeting(ranks, self)

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self._told[rank] = pickle.dumps(value)
        self._barrier.wait()
        told = [pickle.loads(each) for each in self._told]
        self._barrier.wait()
        return told

    def run(self, work: Callable[[Ranks], T]) -> list[T]:
        """Return what ``work`` returns on each rank, or raise what it raised on the first."""
        with ThreadPoolExecutor(self.size) as pool:
            futures = [pool.submit(work, Ranks(rank=rank, world_size=self.size)) for rank in range(self.size)]
            return [future.result() for future in futures]


class _ThreadMeeting(Meeting):
    def __init__(self, ranks: Ranks, threads: RankThreads) -> None:
        super().__init__(ranks)
        self._threads = threads

    def gathered(self, value: T) -> list[T]:
        return self._threads.exchange(self.rank, value)

    def of(self, rank: int, make: Callable[[], T]) -> T:
        made = self.together(lambda: make() if self.rank == rank else None)
        found: T = self.gathered(made)[rank]  # type: ignore[assignment]  # that of the rank
        return found

    def in_order(self, parts: Mapping[int, T], owners: Sequence[int]) -> Iterator[T]:
        everything = {number: part for told in self.gathered(dict(parts)) for number, part in told.items()}
        if self.rank == 0:
            yield from (everything[number] for number in range(len(owners)))
