"""What a run trains on: its splits, encoded, the encoder that made them, and what the checks found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabstep.checks import Finding
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.encoding.encoder import Encoder
from tabstep.encoding.row_weights import check_total
from tabstep.schema import Schema, Split
from tabstep.tables.source import ParquetSource, where_of
from tabstep.training.shard_batches import ShardRows

Show = Callable[[Any], None]


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What is shown, such as a table, with the ``warnings`` in it: a run that shows nothing gives these at least."""

    shown: Any
    warnings: Sequence[str]

    def __rich__(self) -> Any:
        """Return what a console prints."""
        return self.shown

    def __str__(self) -> str:
        return str(self.shown)


@dataclass(frozen=True, kw_only=True)
class ShardedTrain:
    """Train as virtual shards. ``label_counts`` are the rows of each class, or with each label, of all shards."""

    rows: ShardRows
    fingerprint: str
    label_counts: np.ndarray

    @property
    def all_rows(self) -> int:
        """Rows that the counts are of: limits leave some out of the batches alone."""
        return sum(self.rows.lie or self.rows.sizes)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The splits of a run, ready for training. ``best_auroc`` is known for the built-in table alone.

    Where train is ``sharded``, its table has the rows of this rank alone, and it is not among the sources.
    """

    schema: Schema
    encoder: Encoder
    sources: Mapping[Split, ParquetSource]
    tables: Mapping[Split, EncodedTable]
    findings: Sequence[Finding] = ()
    best_auroc: float | None = None
    sharded: ShardedTrain | None = None

    @property
    def train_rows(self) -> int:
        """Rows of train, on all ranks."""
        return self.tables["train"].num_rows if self.sharded is None else self.sharded.rows.num_rows

    @property
    def whole_rows(self) -> int:
        """Rows of train before limits: sizes hang on these, so that a short trial is one of the same network."""
        return self.sources["train"].num_rows if self.sharded is None else self.sharded.all_rows

    @property
    def train_fingerprint(self) -> str:
        """A digest of what train holds, on all ranks."""
        return self.sources["train"].fingerprint() if self.sharded is None else self.sharded.fingerprint


def limited(prepared: Prepared, limits: Mapping[Split, int | None]) -> Prepared:
    """Keep the first rows of each split, as many as ``limits`` says: the same in each epoch, so they can be overfit."""
    sharded = prepared.sharded
    # arrays of shards stay whole: their order is told to use the first rows of each
    if sharded is not None and (rows := limits["train"]) is not None:
        sharded = replace(sharded, rows=sharded.rows.head(rows))
    tables = {
        split: table if (rows := limits[split]) is None or (sharded and split == "train") else table.head(rows)
        for split, table in prepared.tables.items()
    }
    # the rows that are left may all weigh nothing; of shards, a rank has not all of them
    for split, table in tables.items():
        if table.weight is not None and not (sharded and split == "train"):
            check_total(float(table.weight.sum()), str(prepared.schema.weight), where=where_of(split))
    return replace(prepared, tables=tables, sharded=sharded)
