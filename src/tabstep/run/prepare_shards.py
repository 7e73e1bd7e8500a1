"""Prepares a run whose train is cut into virtual shards: each rank reads, fits and encodes its own alone.

Val and test are as in other runs: each machine has them whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tabstep.checks import Finding, check_splits, findings_table, raise_errors, warning_lines
from tabstep.config.settings import DataSettings, SchemaSettings
from tabstep.encoding.column_fits import ColumnFits
from tabstep.encoding.encoded_table import EncodedShards, encode_table
from tabstep.encoding.encoder import Encoder
from tabstep.encoding.encoder_cache import encoder_key
from tabstep.errors import UserError
from tabstep.run.prepare import (
    all_labeled,
    checks_key,
    encoder_options,
    inferred,
    open_tables,
    show_some,
)
from tabstep.run.prepared import Attention, Prepared, ShardedTrain, Show
from tabstep.run.read_progress import ReadProgress
from tabstep.run.sharded_fit import (
    Fitting,
    counted_labels,
    encoded_shards,
    fitted_columns,
    fitted_encoder,
    mean_weight,
    profiled,
)
from tabstep.run.sharded_train import ShardedTable, open_sharded
from tabstep.run.text_formats import reading_certain, text_formats
from tabstep.schema import Schema, Split, Task
from tabstep.system.cache import cached_text, kept_text
from tabstep.system.rank_exchange import Meeting, meeting
from tabstep.system.ranks import Ranks
from tabstep.tables.lakes import lake_of
from tabstep.tables.locations import is_csv
from tabstep.tables.source import ParquetSource
from tabstep.tables.splits import labeled, locate_splits
from tabstep.training.shard_batches import ShardRows


def prepare_shards(
    data: DataSettings,
    stated: SchemaSettings,
    ranks: Ranks,
    *,
    cache_dir: Path,
    show: Show,
    progress: Literal["auto", "bar", "lines", "none"] = "none",
) -> Prepared:
    """Return what ``prepare`` does, with the rows of train that this rank has.

    Raises:
        UserError: as there, or something is asked for that needs the whole of train in one place.
        RetryError: a rank went away.
    """
    assert data.shards is not None
    with meeting(ranks) as meet, ReadProgress(progress) as watch:
        sources, schema = meet.together(lambda: _opened(data, stated, cache_dir, show))
        table = open_sharded(
            sources.pop("train"),
            data.shards,
            ranks,
            meet,
            spread=data.sharded and ranks.num_nodes > 1,
            memory=cache_dir,
        )
        sources, table, found, task = _inferred(sources, table, schema, meet, show)
        if data.drop_unlabeled:
            sources, table = _labeled(sources, table, found, meet, show)
        # after the rows without a label are gone: the fingerprint is of those that are kept
        table = table.digested(meet).watched(watch)
        show(f"data.shards: {table.num_rows:,} rows of train in {len(table.sizes)} shards on {ranks.world_size} ranks")
        options = encoder_options(data)
        fitting = partial(ColumnFits, table, found, options=options, task=task, classes=schema.classes, seed=0)
        key = encoder_key([table.fingerprint, found.to_dict(), asdict(options), task, schema.classes, 0])
        findings, fits = _check(data, table, sources, found, fitting, cache_dir, meet, show)
        encoder = _encoder(table, fitting, fits, cache_dir / key, meet, statistics=options.statistics)
        show_some(encoder.decisions(), show)
        mean = mean_weight(table, found.weight, meet)
        store = EncodedShards(table.shards, encoder, cache_dir, table=table.fingerprint, mean_weight=mean)
        train = encoded_shards(table, encoder, meet, store)
        counts = counted_labels(train, encoder, meet)
        others = meet.together(
            lambda: {split: encode_table(source, encoder, cache_dir) for split, source in sources.items()}
        )
    rows = ShardRows(sizes=table.sizes, own=tuple(table.own))
    return Prepared(
        schema=found,
        encoder=encoder,
        sources=sources,
        tables={"train": train, **others},
        findings=findings,
        sharded=ShardedTrain(rows=rows, fingerprint=table.fingerprint, label_counts=counts),
    )


def _encoder(
    table: ShardedTable, fitting: Fitting, fits: ColumnFits | None, place: Path, meet: Meeting, *, statistics: bool
) -> Encoder:
    """Return the encoder that lies at ``place``, or fit it; ``fits`` may have taken the rows already."""
    cache_dir, key = place.parent, place.name
    kept = meet.first(lambda: kept_text(cache_dir, key))
    if kept is None:
        if not meet.first(lambda: fits is not None):
            fits = fitted_columns(table, fitting, meet)
        text = fitted_encoder(table, fits, meet, statistics=statistics).to_json()
        kept = meet.first(lambda: cached_text(cache_dir, key, lambda: text))
    return Encoder.from_json(kept)


def _opened(
    data: DataSettings, schema: SchemaSettings, cache_dir: Path, show: Show
) -> tuple[dict[Split, ParquetSource], SchemaSettings]:
    _check_locations(data)
    sources, schema, _ = open_tables(data, schema, cache_dir, show)
    return sources, schema


def _inferred(
    sources: Mapping[Split, ParquetSource], table: ShardedTable, schema: SchemaSettings, meet: Meeting, show: Show
) -> tuple[dict[Split, ParquetSource], ShardedTable, Schema, Task | None]:
    """Infer the schema and the task, and return the tables as the schema reads them.

    From the first shard alone, wherever it is: with any number of ranks the schema is the same.
    """
    forms = meet.of(table.owners[0], lambda: text_formats(table.shards[0], schema))
    schema = reading_certain(schema, forms)
    table = table.reading(schema.parse)
    found, task, told = meet.of(table.owners[0], lambda: inferred(table.shards[0], schema, forms))
    for line in told:
        show(line)
    return {split: source.reading(schema.parse, exact=False) for split, source in sources.items()}, table, found, task


def _check_locations(data: DataSettings) -> None:
    locations = locate_splits(data.path, data.train, data.val, data.test)
    if "val" not in locations:
        raise UserError(
            "data.shards: data.val is not set, and val would be drawn from the whole of data.train: set data.val, or "
            "data.shards=null"
        )
    train = locations["train"]
    if lake_of(train, where="data.train") is not None or is_csv(train, where="data.train"):
        raise UserError(f"data.shards: {train} is not parquet, of which a rank can read a part: write it as parquet")


def _labeled(
    sources: Mapping[Split, ParquetSource], table: ShardedTable, schema: Schema, meet: Meeting, show: Show
) -> tuple[dict[Split, ParquetSource], ShardedTable]:
    kept = table.kept(meet, lambda shard: labeled(shard, schema.label))
    if dropped := table.num_rows - kept.num_rows:
        show(f"data.drop_unlabeled: {dropped:,} rows of train have no label and are left out")
    return all_labeled(sources, schema.label, show), kept


def _check(
    data: DataSettings,
    table: ShardedTable,
    sources: Mapping[Split, ParquetSource],
    schema: Schema,
    fitting: Fitting,
    cache_dir: Path,
    meet: Meeting,
    show: Show,
) -> tuple[list[Finding], ColumnFits | None]:
    """Run the checks on rank 0, once for the same files and schema; the fits of the same pass are returned there."""
    if data.checks == "off":
        return [], None
    fingerprints: dict[Split, str] = {"train": table.fingerprint}
    fingerprints |= {split: source.fingerprint() for split, source in sources.items()}
    key = checks_key(schema, fingerprints)
    kept: str | None = meet.first(lambda: kept_text(cache_dir, key))
    fits: ColumnFits | None = None
    if kept is None:
        every: dict[Split, ParquetSource] = {"train": table.source, **sources}
        lacking = [name for name in schema.columns if name not in table.arrow_schema.names]
        # a column that is missing cannot be read: the checks say which it is
        profile, fits = (None, None) if lacking else profiled(table, schema, fitting, meet)

        def made() -> str:
            found: list[dict[str, Any]] = [asdict(finding) for finding in check_splits(every, schema, train=profile)]
            return cached_text(cache_dir, key, lambda: json.dumps(found))

        kept = meet.first(made)
    findings = [Finding(**finding) for finding in json.loads(kept)]
    show(Attention(shown=findings_table(findings), warnings=warning_lines(findings)))
    raise_errors(findings, data.checks)
    return findings, fits
