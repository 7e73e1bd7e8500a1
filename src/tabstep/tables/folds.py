"""The folds of a cross-validation: every row is val once, by the draw that holds out val, or later rows follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tabstep.errors import UserError
from tabstep.tables.source import ParquetSource
from tabstep.tables.splits import Cut, check_column, draw_latest, label_strata, most_frequent, times_of
from tabstep.tables.typed_table import TypedTable


def assign_folds(table: TypedTable, cut: Cut, folds: int, *, known: bool = False) -> np.ndarray:
    """Return ``(num_rows,)`` int16: the fold, from 1, in which a row is val; 0, in time alone, for the earliest rows.

    The same rows, cut and number give the same folds.

    Args:
        known: the classes are declared, so that a model knows those too that its rows do not show.

    Raises:
        UserError: the column of groups or times is missing, or a fold or a class has too few rows for this.
    """
    single = len(cut.label) == 1
    codes, classes = label_strata(table, cut.label[0]) if single else (np.zeros(table.num_rows, np.int32), [None])
    if cut.time is not None:
        numbers = _in_time(times_of(table, cut.time), folds, cut.time)
        if not known:
            _check_first_part(numbers, codes, classes, cut.time)
        return numbers
    if cut.group is None:
        _check_counts(np.bincount(codes), classes, folds, "rows")
        if table.num_rows < folds:
            raise UserError(f"data.folds: {folds} folds of {table.num_rows} rows leave some without rows: set fewer")
        return deal(codes, folds, cut.seed)
    check_column(table, cut.group, "group")
    groups, values = label_strata(table, cut.group)
    if len(values) < folds:
        raise UserError(f"data.folds: {folds} folds of whole groups, but {cut.group!r} has {len(values)} values")
    # a group counts once for each class that it has
    pairs = np.unique(groups.astype(np.int64) * len(classes) + codes)
    _check_counts(np.bincount(pairs % len(classes)), classes, folds, f"values of {cut.group!r}")
    numbers = deal_groups(groups, codes, folds, cut.seed)
    _check_spread(numbers, codes, classes)
    return numbers


def deal(codes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return ``(n,)`` folds from 1: each has its part of each class, and of the whole, exact to one row.

    >>> np.bincount(deal(np.repeat([0, 1], [7, 5]), 3, seed=0)[:7]).tolist()
    [0, 3, 2, 2]
    """
    numbers = np.empty(len(codes), dtype=np.int16)
    # a stream of its own: the draws of val have 0 and 1
    order = np.random.default_rng([seed, 2]).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    numbers[order] = np.arange(len(codes)) % folds + 1  # as cards are dealt: a class goes on where the last one ended
    return numbers


def deal_groups(groups: np.ndarray, codes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return as ``deal``, with all rows of a group in one fold.

    The largest group comes first, each into the fold that has the fewest rows of the group's most frequent class, then
    the fewest rows. Memory is that of a number a group.

    >>> groups = np.repeat(np.arange(6), [5, 1, 1, 1, 1, 1])
    >>> np.bincount(deal_groups(groups, np.zeros(10, dtype=int), 2, seed=0)).tolist()
    [0, 5, 5]
    """
    count = int(groups.max(initial=-1)) + 1
    sizes = np.bincount(groups, minlength=count)
    strata = most_frequent(groups, codes, count)
    order = np.random.default_rng([seed, 3]).permutation(count)
    # stable: groups of one size stay in the order of the draw
    order = order[np.argsort(-sizes[order], kind="stable")]
    of_class = [[0] * folds for _ in range(int(strata.max(initial=0)) + 1)]
    total = [0] * folds
    numbers = np.empty(count, dtype=np.int16)
    for group, size, stratum in zip(order.tolist(), sizes[order].tolist(), strata[order].tolist(), strict=True):
        rows = of_class[stratum]
        fold = min(range(folds), key=lambda each: (rows[each], total[each]))
        rows[fold] += size
        total[fold] += size
        numbers[group] = fold + 1
    return np.asarray(numbers[groups])


def train_and_val(
    source: ParquetSource, numbers: np.ndarray, fold: int, cut: Cut
) -> tuple[ParquetSource, ParquetSource]:
    """Return train and val of one fold; in time, train has the rows before those of val, and no later ones."""
    before = numbers < fold if cut.time is not None else numbers != fold
    return source.subset(before, "train"), source.subset(numbers == fold, "val")


def _in_time(times: np.ndarray, folds: int, name: str) -> np.ndarray:
    """Cut the rows into ``folds + 1`` parts in their order of time; the first is never val."""
    numbers = draw_latest(times, [1 / (folds + 1)] * folds).astype(np.int16)
    empty = np.flatnonzero(np.bincount(numbers, minlength=folds + 1) == 0)
    if len(empty):
        raise UserError(
            f"data.folds: {folds} folds in the order of {name!r} are {folds + 1} parts, and rows of one time stay "
            f"together: part {empty[0] + 1} has none: set fewer folds"
        )
    return numbers


def _check_first_part(numbers: np.ndarray, codes: np.ndarray, classes: Sequence[str | None], name: str) -> None:
    """Refuse a class that comes later than the first part, which is all that the first model learns from."""
    seen = np.bincount(codes[numbers == 0], minlength=len(classes))
    for index, (label, count) in enumerate(zip(classes, seen.tolist(), strict=True)):
        if label is not None and count == 0:
            part = int(numbers[codes == index].min()) + 1
            raise UserError(
                f"data.folds: class {label!r} first comes in part {part} in the order of {name!r}, and the first model "
                "learns from part 1 alone: set schema.classes, or fewer folds"
            )


def _check_counts(counts: np.ndarray, classes: Sequence[str | None], folds: int, what: str) -> None:
    for name, count in zip(classes, counts.tolist(), strict=True):
        if name is not None and count < folds:
            raise UserError(
                f"data.folds: class {name!r} has {count} {what}, fewer than the {folds} folds: set fewer folds, or "
                "leave the class out"
            )


def _check_spread(numbers: np.ndarray, codes: np.ndarray, classes: Sequence[str | None]) -> None:
    """Refuse a class that one fold has alone: what trains for this fold would not know it."""
    pairs = np.unique(codes.astype(np.int64) * (int(numbers.max()) + 1) + numbers)
    folds = np.bincount(pairs // (int(numbers.max()) + 1), minlength=len(classes))
    for name, count in zip(classes, folds.tolist(), strict=True):
        if name is not None and count < 2:
            raise UserError(
                f"data.folds: all rows of class {name!r} came into one fold: set another seed or fewer folds"
            )
