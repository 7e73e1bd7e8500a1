"""What the ranks of a run tell each other before they train: objects, and errors, which all of them then raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch.distributed as dist

from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.system.ranks import Ranks, open_store

T = TypeVar("T")

_PATIENCE: Final = timedelta(hours=24)
"""For a rank that has more to read; one that dies is noticed at once."""


class Meeting:
    """The ranks of a run, each of which calls the same methods in the same order.

    >>> alone = Meeting(Ranks())
    >>> alone.gathered("rows"), alone.first(lambda: 3), list(alone.in_order({0: "a", 1: "b"}, [0, 0]))
    (['rows'], 3, ['a', 'b'])
    """

    def __init__(self, ranks: Ranks) -> None:
        self.rank = ranks.rank
        self.size = ranks.world_size

    def together(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns here; where it fails on some rank, all raise the error of the first of these."""
        made: T | None = None
        error: UserError | RetryError | None = None
        try:
            made = make()
        except (UserError, RetryError) as raised:
            error = raised
        for each in self.gathered(error):
            if each is not None:
                raise each
        return made  # type: ignore[return-value]  # it was made, or an error was raised

    def gathered(self, value: T) -> list[T]:
        """Return the values of all ranks, on each of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _connected():
            dist.all_gather_object(values, value)
        return values

    def first(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns on rank 0, or raise what it raises there, on all ranks."""
        return self.of(0, make)

    def of(self, rank: int, make: Callable[[], T]) -> T:
        """Return what ``make`` returns on one rank, or raise what it raises there, on all of them."""
        made = self.together(lambda: make() if self.rank == rank else None)
        if self.size == 1:
            return made  # type: ignore[return-value]  # this is the rank
        told = [made]
        with _connected():
            dist.broadcast_object_list(told, src=rank)
        return told[0]  # type: ignore[return-value]  # that of the rank

    def in_order(self, parts: Mapping[int, T], owners: Sequence[int]) -> Iterator[T]:
        """Yield, on rank 0 alone, the parts of all shards in their order; every rank must exhaust it.

        Args:
            parts: by shard, those of this rank.
            owners: the rank of each shard.
        """
        # all walk the shards in one order, so that each send has its receiver
        for shard, owner in enumerate(owners):
            if self.rank == 0:
                yield parts[shard] if owner == 0 else self._received(owner)
            elif self.rank == owner:
                with _connected():
                    dist.send_object_list([parts[shard]], dst=0)

    @staticmethod
    def _received(rank: int) -> Any:
        received = [None]
        with _connected():
            dist.recv_object_list(received, src=rank)
        return received[0]


@contextmanager
def meeting(ranks: Ranks) -> Iterator[Meeting]:
    """Let the ranks meet on the CPU, by a process group of its own that ends with this.

    Raises:
        RetryError: a rank went away, here or in what the meeting does.
    """
    if ranks.world_size == 1:
        yield Meeting(ranks)
        return
    store = dist.PrefixStore("tabstep/meeting", open_store(_PATIENCE))  # type: ignore[attr-defined]
    with _connected():
        dist.init_process_group("gloo", store=store, rank=ranks.rank, world_size=ranks.world_size, timeout=_PATIENCE)
    try:
        yield Meeting(ranks)
    finally:
        dist.destroy_process_group()


@contextmanager
def _connected() -> Iterator[None]:
    """Say of a connection that is gone, which gloo and the store tell by a RuntimeError, what it means."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, StoppedError):  # a signal, in the middle of it
            raise
        raise RetryError(f"data.shards: a rank went away while train was read: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
