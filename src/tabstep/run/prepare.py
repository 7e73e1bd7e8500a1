"""Prepares the data of a run: locations become checked and encoded splits. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from tabstep.checks import Finding, check_splits, findings_table, raise_errors
from tabstep.config.settings import DataSettings, SchemaSettings
from tabstep.encoding.encoded_table import EncodedTable, encode_table, fit_cached
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.schema import Schema, Split
from tabstep.system.cache import cached_json
from tabstep.tables.builtin import write_builtin_table
from tabstep.tables.infer_schema import infer_schema, schema_table
from tabstep.tables.source import ParquetSource, open_source
from tabstep.tables.splits import hold_out, locate_splits

Show = Callable[[Any], None]
_CHECKS_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The splits of a run, ready for training. ``best_auroc`` is known for the built-in table alone."""

    schema: Schema
    encoder: Encoder
    sources: Mapping[Split, ParquetSource]
    tables: Mapping[Split, EncodedTable]
    findings: Sequence[Finding] = ()
    best_auroc: float | None = None


def prepare(data: DataSettings, schema: SchemaSettings, *, seed: int, cache_dir: Path, show: Show) -> Prepared:
    """Open, check and encode the splits; ``show`` gets what a person should read: lines and tables of rich.

    Raises:
        UserError: a file, a column or a label is wrong, or a check found an error.
    """
    sources, schema, best_auroc = _open(data, schema, seed, cache_dir, show)
    found, task, rows = infer_schema(sources["train"], schema)
    show(schema_table(rows))
    if "val" not in sources:
        show(f"data.val is not set: {data.val_share:.0%} of data.train is held out, stratified, seed {seed}")
        sources["train"], sources["val"] = hold_out(sources["train"], found.label, data.val_share, seed)
    if "test" not in sources:
        show("data.test is not set: there will be no test score")
    findings: list[Finding] = []
    if data.checks != "off":
        findings = _check(sources, found, cache_dir)
        show(findings_table(findings))
        raise_errors(findings, data.checks)
    encoder = fit_cached(
        sources["train"],
        found,
        options=EncoderOptions(**asdict(data.encoder)),
        task=task,
        classes=schema.classes,
        seed=0,  # of the row sample alone: a sweep over seeds shares one encoder
        cache_dir=cache_dir,
    )
    tables = {
        split: encode_table(source, encoder, cache_dir, fitted_on=split == "train") for split, source in sources.items()
    }
    return Prepared(
        schema=found, encoder=encoder, sources=sources, tables=tables, findings=findings, best_auroc=best_auroc
    )


def limited(prepared: Prepared, limits: Mapping[Split, int | None]) -> Prepared:
    """Keep the first rows of each split, as many as ``limits`` says: the same in each epoch, so they can be overfit."""
    tables = {
        split: table if (rows := limits[split]) is None else table.head(rows)
        for split, table in prepared.tables.items()
    }
    return replace(prepared, tables=tables)


def _open(
    data: DataSettings, schema: SchemaSettings, seed: int, cache_dir: Path, show: Show
) -> tuple[dict[Split, ParquetSource], SchemaSettings, float | None]:
    """Open the splits; with no location set, those of the built-in table, whose schema is known."""
    locations = locate_splits(data.path, data.train, data.val, data.test)
    best_auroc = None
    if not locations:
        builtin = write_builtin_table(cache_dir / f"builtin-{data.builtin_rows}", rows=data.builtin_rows)
        show(f"no data was given: training on the built-in table ({data.builtin_rows:,} rows); set data.path for yours")
        locations = locate_splits(builtin.path, None, None, None)
        schema = replace(schema, id=schema.id or builtin.id, label=schema.label or builtin.label)
        best_auroc = builtin.best_auroc
    sources = {
        split: open_source(location, split=split, partitioning=data.partitioning, memory=cache_dir)
        for split, location in locations.items()
    }
    return sources, schema, best_auroc


def _check(sources: Mapping[Split, ParquetSource], schema: Schema, cache_dir: Path) -> list[Finding]:
    """Run the checks once for the same files and schema; later runs read what they found."""
    facts = [_CHECKS_VERSION, schema.to_dict(), {split: source.fingerprint() for split, source in sources.items()}]
    key = "checks-" + sha256(json.dumps(facts).encode()).hexdigest()[:16]
    found = cached_json(cache_dir, key, lambda: [asdict(finding) for finding in check_splits(sources, schema)])
    return [Finding(**finding) for finding in found]
