"""Checks on feature columns: missing, infinite, constant, unseen and telling values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from tabstep.checks.findings import Finding, about_columns
from tabstep.checks.leaks import THRESHOLD, leak_scores
from tabstep.checks.profile import Categorical, Profile
from tabstep.schema import Schema

MANY_MISSING: Final = 0.5
MISSING_SHIFT: Final = 0.2
MANY_UNSEEN: Final = 0.05
MANY_DISTINCT: Final = 0.9
_FEW_ROWS: Final = 1000  # with fewer, many distinct values say nothing


def _missing_rates(profile: Profile) -> dict[str, float]:
    return {name: column.missing / profile.scanned for name, column in (profile.numeric | profile.categorical).items()}


def missing(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Yield warnings for columns that are mostly missing, or far more often than in train."""
    train = _missing_rates(profiles["train"])
    for split, profile in profiles.items():
        empty, mostly, shifted = [], [], []
        for name, rate in _missing_rates(profile).items():
            if rate == 1.0:
                empty.append((name, "every value is missing: it is ignored" if split == "train" else "is all missing"))
            elif abs(rate - train[name]) > MISSING_SHIFT:
                shifted.append((name, f"{rate:.0%} are missing, and {train[name]:.0%} in train"))
            elif rate > MANY_MISSING:
                mostly.append((name, f"{rate:.0%} are missing"))
        for found in (empty, mostly, shifted):
            yield from about_columns("missing", split, "warning", found)


def infinities(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Yield warnings for infinite numbers."""
    for split, profile in profiles.items():
        found = [
            (name, f"{column.infinite:,} infinite values are handled as missing")
            for name, column in profile.numeric.items()
            if column.infinite
        ]
        yield from about_columns("infinities", split, "warning", found)


def constants(train: Profile) -> Iterator[Finding]:
    """Yield warnings for columns that have one value only and miss none."""
    found = [
        (name, f"every value is {column.minimum:g}: it tells nothing")
        for name, column in train.numeric.items()
        if column.minimum == column.maximum and not column.missing + column.infinite
    ]
    found += [
        (name, "every value is the same: it tells nothing")
        for name, column in train.categorical.items()
        if column.complete and len(column.values) == 1 and not column.missing
    ]
    yield from about_columns("constants", "train", "warning", found)


def categories(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Yield warnings for columns that hardly repeat a value, and for values that train lacks."""
    train = profiles["train"]
    found = [
        (name, f"{len(column.values):,} distinct values in {train.scanned:,} rows: is it an id?")
        for name, column in train.categorical.items()
        if train.scanned >= _FEW_ROWS and len(column.values) > MANY_DISTINCT * (train.scanned - column.missing)
    ]
    yield from about_columns("categories", "train", "warning", found)
    for split, profile in profiles.items():
        rates = {name: _unseen(column, train.categorical[name]) for name, column in profile.categorical.items()}
        found = [
            (name, f"{rate:.1%} of the values are not in train") for name, rate in rates.items() if rate > MANY_UNSEEN
        ]
        yield from about_columns("categories", split, "warning", found)


def _unseen(column: Categorical, train: Categorical) -> float:
    """Return the share of cells whose value train lacks; 0 where there were too many values to keep."""
    total = int(column.counts.sum())
    if not (column.complete and train.complete and total):
        return 0.0
    new = ~np.isin(column.values, train.values, assume_unique=True)
    return int(column.counts[new].sum()) / total


def leaks(train: Profile, schema: Schema) -> Iterator[Finding]:
    """Yield warnings for columns that rank or give the label almost perfectly."""
    numeric, categorical = leak_scores(train.sample)
    scores = dict(zip(schema.features, np.concatenate([numeric, categorical]).tolist(), strict=True))
    found = [
        (name, f"alone it gives the label away (AUROC {score:.4f}): is it known beforehand? else add to schema.drop")
        for name, score in scores.items()
        if score > THRESHOLD
    ]
    yield from about_columns("leaks", "train", "warning", found)
