"""A table cut into virtual shards: by row groups, or a file each; the cut hangs on the files alone, never on ranks.

A shard is a run of neighbouring row groups in the order of the sorted names, so that the rows of all shards, one after
another, are those of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from tabstep.errors import UserError
from tabstep.tables.file_digests import Contents, Span
from tabstep.tables.footers import Footer
from tabstep.tables.locations import Location
from tabstep.tables.source import Fields, ParquetSource, TablePart

Cut = int | Literal["file"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Row groups of one file: its place among the sorted files, the first group, and the one behind the last."""

    file: int
    first: int
    stop: int


Shard = tuple[Piece, ...]


def cut_shards(row_groups: Sequence[Sequence[int]], cut: Cut) -> list[Shard]:
    """Cut files, given as the rows of their row groups, into shards of about equal rows, or of one file each.

    Raises:
        UserError: there are fewer row groups with rows than shards, or a file has no rows.

    >>> cut_shards([[5, 5], [10]], 2)
    [(Piece(file=0, first=0, stop=2),), (Piece(file=1, first=0, stop=1),)]
    >>> cut_shards([[5, 5], [10]], "file") == cut_shards([[5, 5], [10]], 2)
    True
    """
    if cut == "file":
        return [(Piece(file=file, first=0, stop=len(groups)),) for file, groups in enumerate(row_groups)]
    groups = [(file, group, rows) for file, found in enumerate(row_groups) for group, rows in enumerate(found) if rows]
    if len(groups) < cut:
        raise UserError(
            f"data.shards: {cut} shards of {len(groups)} row groups: set data.shards to at most {len(groups)}, or "
            "write data.train with smaller row groups"
        )
    ends = list(accumulate(rows for *_, rows in groups))
    shards: list[Shard] = []
    first = 0
    for number in range(cut):
        wanted = ends[-1] * (number + 1) / cut
        latest = len(groups) - (cut - number - 1)  # a group is left for each shard that follows
        # whichever end is nearest to that of equal shards; of two, the earlier
        stop = min(range(first + 1, latest + 1), key=lambda stop: (abs(ends[stop - 1] - wanted), stop))
        stop = len(groups) if number == cut - 1 else stop
        shards.append(_pieces(groups[first:stop]))
        first = stop
    return shards


def _pieces(groups: Sequence[tuple[int, int, int]]) -> Shard:
    """Join neighbouring row groups of a file; those without rows in between are taken along."""
    spans: dict[int, tuple[int, int]] = {}
    for file, group, _ in groups:
        spans[file] = (spans.get(file, (group, 0))[0], group + 1)
    return tuple(Piece(file=file, first=first, stop=stop) for file, (first, stop) in spans.items())


def sorted_files(machines: Sequence[Sequence[Footer]]) -> list[tuple[int, Footer]]:
    """Return the files of all machines in the order of their names, each with the machine that has it.

    Raises:
        UserError: two machines have a file of one name.
    """
    found = sorted(
        ((node, footer) for node, footers in enumerate(machines) for footer in footers), key=lambda pair: pair[1].name
    )
    twice = [name for name, count in Counter(footer.name for _, footer in found).items() if count > 1]
    if twice:
        nodes = " and ".join(str(node) for node, footer in found if footer.name == twice[0])
        raise UserError(
            f"data.sharded: machines {nodes} both have {twice[0]}: where every machine has all files, set "
            "data.sharded=false"
        )
    return found


def open_shard(
    source: ParquetSource, files: Sequence[Footer], shard: Shard, *, fields: Fields, memory: Path | None
) -> ParquetSource:
    """Open the rows of one shard; ``source`` has its files, and ``fields`` are the columns of the whole table."""
    location = source.location
    here = {footer.name: footer for footer in source.footers}  # times and inodes differ between machines
    parts = [(here[files[piece.file].name], piece) for piece in shard]
    footers = [
        replace(footer, row_groups=footer.row_groups[piece.first : piece.stop], first_group=piece.first)
        for footer, piece in parts
    ]
    states = {footer.path: footer.state for footer in footers}
    spans = {
        footer.path: _bytes_of(location, footer, piece)
        for footer, piece in parts
        if piece.stop - piece.first < len(footer.row_groups)
    }
    found = Location(filesystem=location.filesystem, base=location.base, paths=tuple(states))
    contents = Contents(found, states, where=source.where, memory=memory, spans=spans)
    return source.shard(footers, contents, TablePart(fields=fields))


def _bytes_of(location: Location, footer: Footer, piece: Piece) -> Span:
    """Return the bytes of row groups: all of a file's belong to one group or another, the footer to the last one."""
    with location.filesystem.open_input_file(footer.path) as file:
        metadata = pq.ParquetFile(file, pre_buffer=False).metadata
        starts = [0, *(_start(metadata, group) for group in range(1, metadata.num_row_groups)), footer.state.size]
    # never back, whatever offset a group without rows has
    ends = list(accumulate(starts, max))
    # groups without rows at either end belong to no shard: the bytes up to the next shard's are taken along
    return ends[piece.first], ends[piece.stop]


def _start(metadata: pq.FileMetaData, group: int) -> int:
    column = metadata.row_group(group).column(0)
    # where there is a dictionary, it stands before the data
    pages = (column.dictionary_page_offset, column.data_page_offset)
    return min(int(offset) for offset in pages if offset)


def owners_of(shards: Sequence[Shard], nodes: Sequence[int], ranks: Mapping[int, Sequence[int]]) -> list[int]:
    """Return the rank that has each shard: a machine's ranks share its shards in their order, as evenly as they can.

    Args:
        nodes: the machine of each file.
        ranks: those of each machine.

    Raises:
        UserError: a machine has fewer shards than ranks.

    >>> owners_of(cut_shards([[1], [1], [1]], "file"), [0, 1, 0], {0: [0, 1], 1: [2]})
    [0, 2, 1]
    """
    owners = [0] * len(shards)
    for node, own in ranks.items():
        numbers = [number for number, shard in enumerate(shards) if nodes[shard[0].file] == node]
        if len(numbers) < len(own):
            raise UserError(
                f"data.shards: {len(own)} ranks of machine {node} and {len(numbers)} shards: each rank needs one: "
                "start fewer ranks, or write more files"
            )
        for place, number in enumerate(numbers):
            owners[number] = own[_share_of(place, len(numbers), len(own))]
    return owners


def _share_of(place: int, count: int, shares: int) -> int:
    """Return which of ``shares`` equal runs of ``count`` things has the one at ``place``.

    >>> [_share_of(place, 5, 2) for place in range(5)]
    [0, 0, 1, 1, 1]
    """
    return next(share for share in range(shares) if place < count * (share + 1) // shares)


def same_names(footers: Sequence[Footer]) -> list[tuple[str, tuple[int, ...], int]]:
    """Return what must be equal where every machine has all files."""
    return [(footer.name, footer.row_groups, footer.state.size) for footer in footers]
