"""Train, val and test: located by their names, or held out by a seeded, stratified draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pyarrow import fs

from tabstep.errors import ProblemsError, UserError, nearest
from tabstep.schema import SPLITS, Split
from tabstep.tables.column_types import to_float64, to_text
from tabstep.tables.locations import CSV_SUFFIXES, PARQUET_SUFFIXES, entries, is_directory
from tabstep.tables.source import ParquetSource
from tabstep.tables.typed_table import TypedTable

_ALIASES: Final[dict[str, Split]] = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "testing": "test",
}
_NULL: Final = "\0null"


def locate_splits(path: str | None, train: str | None, val: str | None, test: str | None) -> dict[Split, str]:
    """Return the location of each split that there is; empty when nothing is set (the built-in table).

    Below ``path``, a split is a directory of its name (``train/``) or a file of its name (``train.parquet``). A
    location of its own wins over what ``path`` holds.

    Raises:
        UserError: no train split, one split in two places, or a name such as ``validation`` for ``val``.
    """
    own: dict[Split, str | None] = {"train": train, "val": val, "test": test}
    located: dict[Split, str] = {}
    if path is not None:
        wanted = [split for split in SPLITS if own[split] is None]
        located = _below(path, wanted)
    located |= {split: location for split, location in own.items() if location is not None}
    if train is not None and is_directory(train, where="data.train"):
        inside = {_split_name(info) for info in entries(train, where="data.train").values()}
        if inside >= {"train", "test"} or inside >= {"train", "val"}:
            raise UserError(f"data.train: {train} holds several splits: set data.path={train} instead")
    if located and "train" not in located:
        raise UserError(f"data.train: is missing, {' and '.join(sorted(located))} alone cannot train: set data.train")
    return {split: located[split] for split in SPLITS if split in located}


def holds_splits(location: str) -> bool:
    """Whether a location is a directory with a train split in it, rather than one table."""
    where = "data.path"
    return is_directory(location, where=where) and "train" in map(_split_name, entries(location, where=where).values())


def _below(path: str, wanted: Sequence[Split]) -> dict[Split, str]:
    there = entries(path, where="data.path")
    located: dict[Split, str] = {}
    problems: list[str] = []
    for split in wanted:
        names = [name for name, info in there.items() if _split_name(info) == split]
        if len(names) > 1:
            problems.append(f"data.path: {path} holds {split} twice ({', '.join(sorted(names))}): set data.{split}")
        elif names:
            located[split] = f"{path.rstrip('/')}/{names[0]}"
        problems += [
            f"data.path: {path} holds {name!r}, and the split is called {split!r}: rename it or set data.{split}"
            for name, info in there.items()
            if not names and _ALIASES.get(_split_name(info)) == split
        ]
    if "train" in wanted and "train" not in located and not problems:
        problems.append(
            f"data.path: {path} holds neither train/ nor train.parquet or train.csv (there is {_some(list(there))}): "
            "set data.train, or cut one table into splits with `tabstep split`"
        )
    if problems:
        raise ProblemsError(problems)
    return located


def _split_name(info: fs.FileInfo) -> str:
    name: str = info.base_name
    if info.type == fs.FileType.Directory:
        return name
    suffix = next((suffix for suffix in PARQUET_SUFFIXES + CSV_SUFFIXES if name.endswith(suffix)), None)
    return "" if suffix is None else name.removesuffix(suffix)


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")


def label_strata(source: TypedTable, label: str) -> tuple[np.ndarray, list[str | None]]:
    """Return ``(num_rows,)`` int32 codes of a label column in one pass, and the text of each code (None is null)."""
    known: dict[str, int] = {}
    parts = []
    for batch in source.batches([label]):
        encoded = to_text(batch.column(0)).fill_null(_NULL).dictionary_encode()
        # every batch has a dictionary of its own, whose codes are brought to those of the table
        local = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
        parts.append(np.array(local, dtype=np.int32)[encoded.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts), [None if text == _NULL else text for text in known]


def draw(codes: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Return ``(n,)`` int8: 0, or i for a row that goes to the i-th share.

    Each class gives each share its part, exact to one row, and the whole gives it ``round(n * share)`` rows. The same
    seed and codes give the same draw.

    >>> np.bincount(draw(np.repeat([0, 1], [90, 10]), [0.2], seed=0)[:90]).tolist()
    [72, 18]
    """
    part = np.zeros(len(codes), dtype=np.int8)
    order = np.random.default_rng([seed, 0]).permutation(len(codes))
    # stable: within a class the drawn order stays
    order = order[np.argsort(codes[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    taken = np.zeros(len(starts) - 1, dtype=np.int64)
    for number, share in enumerate(shares, start=1):
        for code, count in enumerate(_counts(np.diff(starts), share)):
            first = starts[code] + taken[code]
            # shares are rounded one by one, and may ask for a row more than the class has
            part[order[first : first + min(count, starts[code + 1] - first)]] = number
            taken[code] += count
    return part


def _counts(sizes: np.ndarray, share: float) -> np.ndarray:
    """Return rows of each class by the method of largest remainders."""
    exact = sizes * share
    counts = np.floor(exact).astype(np.int64)
    left = round(float(sizes.sum()) * share) - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:left]] += 1
    return counts


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How rows are drawn: stratified by a single ``label`` column; by whole groups or in the order of time, if asked.

    ``group``: all rows with one value of this column stay in one split. ``time``: the latest rows are the last split.
    """

    label: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    seed: int = 0

    def __str__(self) -> str:
        """Say how, after a comma."""
        if self.time is not None:
            return f"the latest by {self.time!r}"
        stratified = f"stratified, seed {self.seed}"
        return stratified if self.group is None else f"whole groups of {self.group!r}, {stratified}"


def cut_rows(table: TypedTable, cut: Cut, shares: Sequence[float]) -> np.ndarray:
    """Return ``(num_rows,)`` int8: 0, or i for a row that goes to the i-th share.

    Raises:
        UserError: the column of groups or times is missing, or a time is.
    """
    if cut.time is not None:
        return draw_latest(times_of(table, cut.time), shares)
    codes = label_strata(table, cut.label[0])[0] if len(cut.label) == 1 else np.zeros(table.num_rows, dtype=np.int32)
    if cut.group is None:
        return draw(codes, shares, cut.seed)
    check_column(table, cut.group, "group")
    return draw_groups(label_strata(table, cut.group)[0], codes, shares, cut.seed)


def draw_groups(groups: np.ndarray, codes: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Return as ``draw``, with all rows of a group in one place.

    Groups are drawn like rows, each with the class that most of its rows have, until a share has its rows; a share is
    exact to half of a group for each class.

    >>> groups = np.repeat(np.arange(10), 10)
    >>> np.unique(groups[draw_groups(groups, np.zeros(100, dtype=int), [0.2], seed=0) == 1]).size
    2
    """
    count = int(groups.max(initial=-1)) + 1
    sizes = np.bincount(groups, minlength=count)
    stratum = most_frequent(groups, codes, count)
    order = np.random.default_rng([seed, 1]).permutation(count)
    part = np.zeros(count, dtype=np.int8)
    for code in np.unique(stratum):
        members = order[stratum[order] == code]
        middles = np.cumsum(sizes[members]) - sizes[members] / 2.0
        edges = np.cumsum(shares) * sizes[members].sum()
        places = np.searchsorted(edges, middles, side="right")
        part[members] = np.where(places < len(shares), places + 1, 0)
    return np.asarray(part[groups])


def most_frequent(groups: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Return the class of most rows of each group, the first of equally frequent ones."""
    classes = int(codes.max(initial=0)) + 1
    pairs, rows = np.unique(groups.astype(np.int64) * classes + codes, return_counts=True)
    order = np.lexsort((pairs, -rows))[::-1]  # the last one written is the most frequent
    strata = np.zeros(count, dtype=np.int64)
    strata[pairs[order] // classes] = pairs[order] % classes
    return strata


def draw_latest(times: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return as ``draw``: the last share has the latest rows, that before it those before; equal times stay together.

    >>> draw_latest(np.array([3, 1, 2, 4, 5]), [0.2, 0.2]).tolist()
    [0, 0, 0, 1, 2]
    """
    part = np.zeros(len(times), dtype=np.int8)
    ordered = np.sort(times)
    kept = 1.0 - np.cumsum(shares[::-1])[::-1]  # of the rows, those before each share begins
    for number, before in enumerate(kept, start=1):
        first = ordered[min(round(before * len(times)), len(times) - 1)] if len(times) else 0
        # a share of nothing has no rows, though some may have the time at its edge
        if shares[number - 1] > 0:
            part[times >= first] = number
    return part


def times_of(table: TypedTable, name: str) -> np.ndarray:
    check_column(table, name, "time")
    times = np.concatenate([to_float64(batch.column(0)) for batch in table.batches([name])])
    if np.isnan(times).any():
        row = int(np.flatnonzero(np.isnan(times))[0])
        raise UserError(f"{table.where}: row {row} has no {name!r}, by which it is split: fill it, or drop the row")
    return times


def check_column(table: TypedTable, name: str, what: str) -> None:
    if name not in table.arrow_schema.names:
        close = nearest(name, table.arrow_schema.names)
        raise UserError(f"{table.where}: has no column {name!r} to split by {what}: {close}")


def hold_out(source: ParquetSource, cut: Cut, share: float) -> tuple[ParquetSource, ParquetSource]:
    """Cut ``source`` into train and val.

    Raises:
        UserError: one of the two would have no row, or as ``cut_rows``.
    """
    held = cut_rows(source, cut, [share]) == 1
    if not held.any() or held.all():
        raise UserError(
            f"data.val_share: {share} of {source.num_rows} rows leaves a split without rows: change it or set data.val"
        )
    return source.subset(~held, "train"), source.subset(held, "val")


def labeled(source: ParquetSource, label: Sequence[str]) -> ParquetSource:
    """Return the rows that have every label."""
    masks = [
        np.logical_and.reduce([column.is_valid().to_numpy(zero_copy_only=False) for column in batch.columns])
        for batch in source.batches(list(label))
    ]
    mask = np.concatenate(masks)
    return source if mask.all() else source.subset(mask, source.split)
