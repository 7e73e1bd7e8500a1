"""One encoder from the shards of many ranks: each fits its own, and rank 0 joins them in the order of the shards.

What comes of it is the same with any number of ranks, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tabstep.checks.profile import Profile, Walk
from tabstep.encoding.column_fits import ColumnFits, Tentative
from tabstep.encoding.encoded_table import EncodedShards, EncodedTable
from tabstep.encoding.encoder import Encoder
from tabstep.encoding.row_weights import check_total, row_weights
from tabstep.errors import UserError
from tabstep.run.sharded_train import ShardedTable, in_order
from tabstep.schema import Schema
from tabstep.system.rank_exchange import Meeting
from tabstep.tables.scan import Collector, numbered, scan
from tabstep.tables.source import ParquetSource

Fitting = Callable[[], ColumnFits]


def profiled(
    table: ShardedTable, schema: Schema, fitting: Fitting, meet: Meeting
) -> tuple[Profile | None, ColumnFits | None]:
    """Return what the checks need to know of train, and what the encoder learns of its columns; on rank 0 alone.

    The second is None where a value or a label is wrong: the checks say more of it.
    """

    def of_shard(shard: ParquetSource) -> tuple[Walk, ColumnFits | None]:
        # of the whole table: limits and samples go by row numbers through all shards
        walk, tried = Walk.over(table.num_rows, schema), _tried(fitting)
        collectors: list[Collector] = [walk]
        if tried is not None:
            collectors.append(tried)
        scan(shard, schema.columns, collectors)
        fits = None if tried is None else tried.fits
        if fits is not None:
            fits.compact()
        return walk, fits

    own = meet.together(lambda: {number: of_shard(shard) for number, shard in table.own.items()})
    whole, together = Walk.over(table.num_rows, schema), _tried(fitting)
    for walk, fits in meet.in_order(own, table.owners):
        whole.join(walk)
        if together is not None:
            together.join(fits)
    if meet.rank != 0:
        return None, None
    return whole.profile(table.num_rows), None if together is None else together.fits


def _tried(fitting: Fitting) -> Tentative | None:
    try:
        return Tentative(fitting())
    except UserError:
        return None


def fitted_columns(table: ShardedTable, fitting: Fitting, meet: Meeting) -> ColumnFits:
    """Return what an encoder learns of the columns, on rank 0; on the others it is of none of the rows.

    Raises:
        UserError: a label or a value is wrong.
    """

    def of_shard(shard: ParquetSource) -> ColumnFits:
        fits = fitting()
        scan(shard, fits.columns, [fits])
        fits.compact()
        return fits

    own = meet.together(lambda: {number: of_shard(shard) for number, shard in table.own.items()})
    whole = meet.together(fitting)
    # received before anything is joined: a rank whose part is not taken would wait for ever
    found = list(meet.in_order(own, table.owners))

    def joined() -> None:
        for fits in found:
            whole.join(fits)

    meet.together(joined)
    return whole


def fitted_encoder(table: ShardedTable, fits: ColumnFits | None, meet: Meeting, *, statistics: bool) -> Encoder:
    """Return the encoder of the columns that rank 0 has fitted, with the statistics that all shards show.

    Raises:
        UserError: the labels make no task.
    """

    def finished() -> str:
        assert fits is not None
        # as text, by which it goes to the other ranks too: all have the same encoder, this one included
        return Encoder(**fits.finish()).to_json()

    encoder = Encoder.from_json(meet.first(finished))
    if not statistics or not encoder.may_have_statistics:
        return encoder
    own = meet.together(
        lambda: {number: encoder.code_sample([shard], table.num_rows) for number, shard in table.own.items()}
    )
    whole = encoder.code_sample([], table.num_rows)
    for sample in meet.in_order(own, table.owners):
        whole.join(sample)
    return Encoder.from_json(meet.first(lambda: encoder.with_statistics(whole).to_json()))


def encoded_shards(table: ShardedTable, encoder: Encoder, meet: Meeting, store: EncodedShards) -> EncodedTable:
    """Encode the own shards; where a rank has none of an earlier run, all tell what rates of the target are made of."""
    kept = meet.together(store.kept)
    if all(meet.gathered(kept is not None)):
        assert kept is not None
        return kept
    sums = meet.together(lambda: encoder.fold_sums(table.shards, table.num_rows))
    whole = meet.together(lambda: encoder.fold_sums([], table.num_rows))
    # a part a rank and not a shard: whole numbers add up to the same in any order
    for part in meet.in_order({meet.rank: sums}, range(meet.size)):
        if whole is not None and part is not None:
            whole.join(part)
    told = meet.first(lambda: whole)
    return meet.together(lambda: store.encoded(told) if kept is None else kept)


def mean_weight(table: ShardedTable, name: str | None, meet: Meeting) -> float | None:
    """Return the mean of the rows' weights, summed in the order of the shards.

    Raises:
        UserError: a weight is none, or all are zero.
    """
    if name is None:
        return None

    def total(shard: ParquetSource) -> float:
        pieces = numbered(shard.batches([name]), shard.first_row)
        parts = (row_weights(batch, name, first_row=row, where=shard.where) for batch, row in pieces)
        return sum(float(part.sum()) for part in parts)

    own = meet.together(lambda: {number: total(shard) for number, shard in table.own.items()})
    found = sum(in_order(meet.gathered(own)))
    check_total(found, name, where=table.where)
    return found / table.num_rows


def counted_labels(table: EncodedTable, encoder: Encoder, meet: Meeting) -> np.ndarray:
    """Return the rows of each class, or with each label, of all ranks, int64."""
    if encoder.task == "multilabel":
        # float64: float32 counts no further than 2**24
        own = table.y.sum(axis=0, dtype=np.float64).astype(np.int64)
    else:
        own = np.bincount(table.y, minlength=encoder.num_classes)
    counts: np.ndarray = np.sum(meet.gathered(own), axis=0)
    return counts
