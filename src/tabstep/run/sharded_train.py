"""Train as virtual shards: which files there are on all machines, how they are cut, and what a rank has of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from tabstep.errors import UserError
from tabstep.system.rank_exchange import Meeting
from tabstep.system.ranks import Ranks
from tabstep.tables.footers import Footer, unified_schema
from tabstep.tables.shards import Cut, cut_shards, open_shard, owners_of, same_names, sorted_files
from tabstep.tables.source import ParquetSource, TablePart, Watch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ShardedTable:
    """Train as a rank sees it: facts of the whole, and the rows of its own shards, by number.

    ``source`` has the files of this machine with the columns of all; its rows are not read.
    """

    source: ParquetSource
    own: Mapping[int, ParquetSource]
    owners: tuple[int, ...]
    sizes: tuple[int, ...]
    fingerprint: str = ""

    @property
    def where(self) -> str:
        """How messages name it."""
        return self.source.where

    @property
    def num_rows(self) -> int:
        """Rows of all shards."""
        return sum(self.sizes)

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The columns of all shards."""
        return self.source.arrow_schema

    @property
    def shards(self) -> list[ParquetSource]:
        """The rows of the own shards, in their order."""
        return list(self.own.values())

    def reading(self, parse: Mapping[str, str]) -> ShardedTable:
        """Return the same table, which reads the text of some columns by a format."""
        own = {number: shard.reading(parse) for number, shard in self.own.items()}
        return replace(self, source=self.source.reading(parse), own=own)

    def kept(self, meet: Meeting, keep: Callable[[ParquetSource], ParquetSource]) -> ShardedTable:
        """Return the rows that ``keep`` leaves of each shard, numbered through all shards."""
        own = meet.together(lambda: {number: keep(shard) for number, shard in self.own.items()})
        sizes = in_order(meet.gathered({number: shard.num_rows for number, shard in own.items()}))
        firsts = list(accumulate(sizes, initial=0))
        own = {number: shard.begins_at(firsts[number]) for number, shard in own.items()}
        return replace(self, own=own, sizes=tuple(sizes))

    def watched(self, watch: Watch) -> ShardedTable:
        """Return the same, whose passes tell ``watch`` of each batch as if the own shards were one split."""
        own, total = {}, sum(shard.num_rows for shard in self.own.values())
        before = 0
        for number, shard in self.own.items():
            own[number] = shard.watched(partial(_told, watch, before, total))
            before += shard.num_rows
        return replace(self, own=own)

    def digested(self, meet: Meeting) -> ShardedTable:
        """Return the same with its fingerprint: each rank reads the bytes of its own shards."""
        own = meet.together(lambda: {number: shard.fingerprint() for number, shard in self.own.items()})
        digests = in_order(meet.gathered(own))
        return replace(self, fingerprint=hashlib.sha256(json.dumps(digests).encode()).hexdigest())


def _told(watch: Watch, before: int, total: int, where: str, done: int, _: int) -> None:
    watch(where, before + done, total)


def in_order(parts: Sequence[Mapping[int, T]]) -> list[T]:
    """Return what several ranks have of some shards, in the order of the shards.

    >>> in_order([{0: "a", 2: "c"}, {1: "b"}])
    ['a', 'b', 'c']
    """
    joined = {number: part for found in parts for number, part in found.items()}
    return [joined[number] for number in sorted(joined)]


def open_sharded(
    local: ParquetSource, cut: Cut, ranks: Ranks, meet: Meeting, *, spread: bool, memory: Path
) -> ShardedTable:
    """Cut a table into shards; ``spread``: each machine has some of its files, or else each has all of them.

    Raises:
        UserError: machines see other files than expected, or there are too few for the shards or ranks.
    """
    files, ranks_of = _files(local, ranks, meet, spread=spread)
    footers = [footer for _, footer in files]
    shards = cut_shards([footer.row_groups for footer in footers], cut)
    owners = owners_of(shards, [node for node, _ in files], ranks_of)
    fields = unified_schema(footers)

    def opened() -> dict[int, ParquetSource]:
        return {
            number: open_shard(local, footers, shard, fields=fields, memory=memory)
            for number, shard in enumerate(shards)
            if owners[number] == ranks.rank
        }

    source = local.typed(TablePart(fields=fields))
    # no sizes yet: to keep all rows of each shard counts them, and tells where each begins
    table = ShardedTable(source=source, own=meet.together(opened), owners=tuple(owners), sizes=())
    return table.kept(meet, lambda shard: shard)


def _files(
    local: ParquetSource, ranks: Ranks, meet: Meeting, *, spread: bool
) -> tuple[list[tuple[int, Footer]], dict[int, list[int]]]:
    """Return all files with the machines that have them, and the ranks of each machine."""
    if spread:
        # the ranks of one machine see the same files
        told = meet.gathered(local.footers if ranks.local_rank == 0 else None)
        machines = [footers for footers in told if footers is not None]
        ranks_of = {
            node: list(range(node * ranks.local_world_size, (node + 1) * ranks.local_world_size))
            for node in range(ranks.num_nodes)
        }
        return sorted_files(machines), ranks_of
    seen = meet.gathered(hashlib.sha256(repr(same_names(local.footers)).encode()).hexdigest())
    others = [rank for rank, digest in enumerate(seen) if digest != seen[0]]
    if others:
        raise UserError(
            f"data.shards: ranks 0 and {others[0]} see other files of {local.where}: where each machine has a part of "
            "them, set data.sharded=true and data.shards=file"
        )
    return sorted_files([local.footers]), {0: list(range(ranks.world_size))}
