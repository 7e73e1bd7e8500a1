"""Checks on rows: files, ids and whole rows that stand in two splits, or twice in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from tabstep.checks.findings import Finding
from tabstep.checks.profile import Profile
from tabstep.checks.row_hash import contained, distinct
from tabstep.schema import Schema, Split
from tabstep.tables.source import ParquetSource

MANY_SHARED_IDS: Final = 0.5
MANY_EQUAL_ROWS: Final = 0.01


def shared_files(sources: Mapping[Split, ParquetSource]) -> Iterator[Finding]:
    """Yield an error for a file of two splits; the two parts of a held-out share do not count.

    A warning where directories look like partitions and are not read as columns.
    """
    seen: dict[str, str] = {}
    for split, source in sources.items():
        if source.ignored_partitions:
            message = f"directories named {source.ignored_partitions[0]}=… give no column: set data.partitioning=hive"
            yield Finding(check="files", split=split, column=None, severity="warning", message=message)
        if not source.whole:
            continue
        shared = [file for file in source.files if file in seen]
        if shared:
            message = f"{shared[0]} is in {seen[shared[0]]} too: name other files for one of them"
            yield Finding(check="files", split=split, column=None, severity="error", message=message)
        seen |= dict.fromkeys(source.files, split)


def ids(profiles: Mapping[str, Profile], schema: Schema) -> Iterator[Finding]:
    """Yield warnings for ids that stand twice, and an error when most ids of a split stand in another."""
    known: dict[str, np.ndarray] = {}
    for split, found in profiles.items():
        if found.id_hashes is None:
            return
        own = distinct(found.id_hashes)
        repeated = found.scanned - len(own)
        if repeated:
            message = f"id {schema.id!r}: {repeated:,} of {found.scanned:,} rows repeat an id"
            yield Finding(check="ids", split=split, column=schema.id, severity="warning", message=message)
        for other, before in known.items():
            shared = len(np.intersect1d(before, own, assume_unique=True))
            if shared:
                # of the smaller one: a small val may lie in train as a whole
                most = shared > MANY_SHARED_IDS * min(len(before), len(own))
                message = f"id {schema.id!r}: {shared:,} of {len(own):,} ids are in {other} too: split by id"
                yield Finding(
                    check="ids",
                    split=split,
                    column=schema.id,
                    severity="error" if most else "warning",
                    message=message,
                )
        known[split] = own


def duplicates(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Yield warnings for rows with equal features and label, within a split and between it and train."""
    train = distinct(profiles["train"].row_hashes)
    for split, found in profiles.items():
        repeated = found.scanned - len(train if split == "train" else distinct(found.row_hashes))
        shared = 0 if split == "train" else int(np.count_nonzero(contained(found.row_hashes, train)))
        for count, what in ((repeated, "repeat another row"), (shared, "are in train too")):
            if count > MANY_EQUAL_ROWS * found.scanned:
                message = f"{count:,} of {found.scanned:,} rows {what} (all features and the label are equal)"
                yield Finding(check="duplicates", split=split, column=None, severity="warning", message=message)
