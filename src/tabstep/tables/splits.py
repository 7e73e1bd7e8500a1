"""Train, val and test: located by their names, or held out by a seeded, stratified draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from pyarrow import fs

from tabstep.errors import ProblemsError, UserError
from tabstep.schema import SPLITS, Split
from tabstep.tables.columns import to_text
from tabstep.tables.locations import PARQUET_SUFFIXES, entries, is_directory
from tabstep.tables.source import ParquetSource, TypedTable

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


def _below(path: str, wanted: Sequence[Split]) -> dict[Split, str]:
    found = entries(path, where="data.path")
    located: dict[Split, str] = {}
    problems: list[str] = []
    for split in wanted:
        names = [name for name, info in found.items() if _split_name(info) == split]
        if len(names) > 1:
            problems.append(f"data.path: {path} holds {split} twice ({', '.join(sorted(names))}): set data.{split}")
        elif names:
            located[split] = f"{path.rstrip('/')}/{names[0]}"
        problems += [
            f"data.path: {path} holds {name!r}, and the split is called {split!r}: rename it or set data.{split}"
            for name, info in found.items()
            if not names and _ALIASES.get(_split_name(info)) == split
        ]
    if "train" in wanted and "train" not in located and not problems:
        problems.append(
            f"data.path: {path} holds neither train/ nor train.parquet (there is {_some(list(found))}): "
            "set data.train, or cut one table into splits with `tabstep split`"
        )
    if problems:
        raise ProblemsError(problems)
    return located


def _split_name(info: fs.FileInfo) -> str:
    name: str = info.base_name
    if info.type == fs.FileType.Directory:
        return name
    suffix = next((suffix for suffix in PARQUET_SUFFIXES if name.endswith(suffix)), None)
    return "" if suffix is None else name.removesuffix(suffix)


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")


def label_strata(source: TypedTable, label: str) -> tuple[np.ndarray, list[str | None]]:
    """Return ``(num_rows,)`` int32 codes of a label column in one pass, and the text of each code (None is null)."""
    known: dict[str, int] = {}
    parts = []
    for batch in source.batches([label]):
        encoded = to_text(batch.column(0)).fill_null(_NULL).dictionary_encode()
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
    order = order[np.argsort(codes[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    taken = np.zeros(len(starts) - 1, dtype=np.int64)
    for number, share in enumerate(shares, start=1):
        for code, count in enumerate(_counts(np.diff(starts), share)):
            first = starts[code] + taken[code]
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


def hold_out(
    source: ParquetSource, label: Sequence[str], share: float, seed: int
) -> tuple[ParquetSource, ParquetSource]:
    """Cut ``source`` into train and val: stratified by a single label column, drawn plainly for several.

    Raises:
        UserError: one of the two would have no row.
    """
    codes = label_strata(source, label[0])[0] if len(label) == 1 else np.zeros(source.num_rows, dtype=np.int32)
    held = draw(codes, [share], seed) == 1
    if not held.any() or held.all():
        raise UserError(
            f"data.val_share: {share} of {source.num_rows} rows leaves a split without rows: change it or set data.val"
        )
    return source.subset(~held, "train"), source.subset(held, "val")
