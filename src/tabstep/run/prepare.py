"""Prepares the data of a run: locations become checked and encoded splits. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from tabstep.checks import Finding, check_splits, findings_table, raise_errors, warning_lines
from tabstep.config.settings import DataSettings, SchemaSettings
from tabstep.decision_goal import check_decision
from tabstep.encoding.column_fits import ColumnFits, EncoderOptions, Tentative
from tabstep.encoding.encoded_table import EncodedTable, encode_table, row_bytes
from tabstep.encoding.encoder import Encoder
from tabstep.encoding.encoder_cache import fit_cached
from tabstep.encoding.foreign_columns import check_own, own_options
from tabstep.encoding.labels import Label
from tabstep.errors import UserError
from tabstep.registry import PluginSettings
from tabstep.run.foreign_reader import read_by
from tabstep.run.in_memory import held_in_memory
from tabstep.run.prepared import Attention, Prepared, Show
from tabstep.run.read_progress import ReadProgress
from tabstep.run.text_formats import TextFormats, format_lines, reading_certain, text_formats
from tabstep.schema import Schema, Split, Task
from tabstep.system.cache import cached_json
from tabstep.tables.builtin import write_builtin_table
from tabstep.tables.column_types import ValueKind, value_kind
from tabstep.tables.folds import assign_folds, train_and_val
from tabstep.tables.infer_schema import Declared, infer_schema, schema_table
from tabstep.tables.readers import as_parquet
from tabstep.tables.source import ParquetSource, open_source, where_of
from tabstep.tables.splits import Cut, hold_out, labeled, locate_splits

# to be raised where a check changes: the cache holds findings of earlier versions
CHECKS_VERSION = 1
_LINES_SHOWN = 16


def prepare(
    data: DataSettings,
    schema: SchemaSettings,
    *,
    seed: int,
    cache_dir: Path,
    show: Show,
    progress: Literal["auto", "bar", "lines", "none"] = "none",
    decision: str | None = None,
) -> Prepared:
    """Open, check and encode the splits; ``show`` gets what a person should read: lines and tables of rich.

    ``progress`` says how a pass over many rows is shown while it lasts.

    Raises:
        UserError: a file, a column or a label is wrong, or a check found an error.
    """
    opened = open_splits(data, schema, cache_dir=cache_dir, show=show, decision=decision)
    sources, found = dict(opened.sources), opened.schema
    cut = cut_of(data, found, seed)
    if data.folds is not None and data.fold is not None:
        show(f"fold {data.fold} of {data.folds}: val is its part of data.train, {cut}")
        numbers = assign_folds(sources["train"], cut, data.folds)
        sources["train"], sources["val"] = train_and_val(sources["train"], numbers, data.fold, cut)
    if "val" not in sources:
        show(f"data.val is not set: {data.val_share:.0%} of data.train is held out, {cut}")
        sources["train"], sources["val"] = hold_out(sources["train"], cut, data.val_share)
    if "test" not in sources:
        show("data.test is not set: there will be no test score")
    with ReadProgress(progress) as watch:
        watched = {split: source.watched(watch) for split, source in sources.items()}
        encoder, tables, findings = _read(data, watched, found, opened.task, schema.classes, cache_dir, show)
    return Prepared(
        schema=found, encoder=encoder, sources=sources, tables=tables, findings=findings, best_auroc=opened.best_auroc
    )


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The tables of a run before val is held out, and what is inferred of their columns."""

    schema: Schema
    task: Task | None
    sources: Mapping[Split, ParquetSource]
    best_auroc: float | None


def open_splits(
    data: DataSettings, schema: SchemaSettings, *, cache_dir: Path, show: Show, decision: str | None = None
) -> Opened:
    """Open the splits and infer the schema; of a cross-validation, train has the rows of val too.

    Raises:
        UserError: a file or a column is wrong, or a ``decision`` is asked for of a task that has none.
    """
    sources, schema, best_auroc = open_tables(data, schema, cache_dir, show)
    if data.folds is not None and "val" in sources:
        show("data.folds: the rows of val are cut into folds with those of train")
        sources["train"] = sources["train"].joined(sources.pop("val"))
    forms = text_formats(sources["train"], schema)
    schema = reading_certain(schema, forms)
    sources = {split: source.reading(schema.parse, exact=False) for split, source in sources.items()}
    found, task, told = inferred(sources["train"], schema, forms)
    if decision is not None:
        check_decision(decision, task or _task_of(sources["train"], found.label[0]))
    for line in told:
        show(line)
    if data.drop_unlabeled:
        sources = all_labeled(sources, found.label, show)
    return Opened(schema=found, task=task, sources=sources, best_auroc=best_auroc)


def _task_of(source: ParquetSource, label: str) -> Task:
    """Return what the values of a label make it: they are read until there are three."""
    seen: set[Any] = set()
    for batch in source.batches([label]):
        seen |= {*batch.column(0).unique().drop_null().to_pylist()}
        if len(seen) > 2:
            return "multiclass"
    return "binary"


def inferred(
    source: ParquetSource, schema: SchemaSettings, forms: TextFormats
) -> tuple[Schema, Task | None, list[Any]]:
    """Return the schema of a table, its task where that is known, and what to show of it and of its text."""
    found, task, rows = infer_schema(source, Declared(**asdict(schema)))
    return found, task, [schema_table(rows), *format_lines(forms)]


def cut_of(data: DataSettings, schema: Schema, seed: int) -> Cut:
    """Return how val, or the folds, are drawn."""
    return Cut(label=schema.label, group=data.split.group, time=data.split.time, seed=seed)


def encoder_options(data: DataSettings) -> EncoderOptions:
    """Return what is asked for of the encoder."""
    chosen = {field.name: getattr(data.encoder, field.name) for field in fields(data.encoder)}
    return EncoderOptions(**{**chosen, "columns": own_options(data.encoder.columns)})


def _read(
    data: DataSettings,
    sources: Mapping[Split, ParquetSource],
    schema: Schema,
    task: Task | None,
    classes: Sequence[Label] | None,
    cache_dir: Path,
    show: Show,
) -> tuple[Encoder, dict[Split, EncodedTable], list[Finding]]:
    """Check the rows, fit the encoder and encode all splits."""
    options = encoder_options(data)
    check_own(options.columns, schema)
    fitting = partial(
        ColumnFits,
        sources["train"],
        schema,
        options=options,
        task=task,
        classes=classes,
        seed=0,  # of the row sample alone: a sweep over seeds shares one encoder
    )
    findings: list[Finding] = []
    fits = None
    if data.checks != "off":
        findings, fits = _check(sources, schema, cache_dir, fitting)
        show(Attention(shown=findings_table(findings), warnings=warning_lines(findings)))
        raise_errors(findings, data.checks)
    encoder = fit_cached(*fitting.args, **fitting.keywords, cache_dir=cache_dir, fits=fits)
    show_some(encoder.decisions(), show)
    size = row_bytes(encoder) * sum(source.num_rows for source in sources.values())
    held = held_in_memory(data.in_memory, size, show)
    tables = {
        split: encode_table(source, encoder, cache_dir, fitted_on=split == "train", in_memory=held)
        for split, source in sources.items()
    }
    return encoder, tables, findings


def all_labeled(sources: Mapping[Split, ParquetSource], label: Sequence[str], show: Show) -> dict[Split, ParquetSource]:
    kept = {split: labeled(source, label) for split, source in sources.items()}
    for split, source in sources.items():
        if dropped := source.num_rows - kept[split].num_rows:
            show(f"data.drop_unlabeled: {dropped:,} rows of {split} have no label and are left out")
    return kept


def show_some(lines: Sequence[str], show: Show) -> None:
    """Show the first lines, and how many others there are."""
    for line in lines[:_LINES_SHOWN]:
        show(line)
    if len(lines) > _LINES_SHOWN:
        show(f"and {len(lines) - _LINES_SHOWN} more of this kind, see encoder.json")


def open_tables(
    data: DataSettings, schema: SchemaSettings, cache_dir: Path, show: Show
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
    sources: dict[Split, ParquetSource] = {}
    kinds: dict[str, ValueKind] = {}
    for split, location in locations.items():
        where = where_of(split)
        if isinstance(data.reader, PluginSettings):
            parquet = str(read_by(data.reader, location, where=where, cache_dir=cache_dir))
        else:
            parquet = as_parquet(location, where=where, cache_dir=cache_dir, kinds=kinds)
        source = open_source(parquet, split=split, partitioning=data.partitioning, memory=cache_dir)
        kinds = kinds or {column.name: value_kind(column.type) for column in source.arrow_schema}  # those of train
        sources[split] = source.reading(schema.parse)
    return sources, schema, best_auroc


def checks_key(schema: Schema, fingerprints: Mapping[Split, str]) -> str:
    """Return the name under which the findings of a schema in some tables are kept."""
    facts = [CHECKS_VERSION, schema.to_dict(), dict(fingerprints)]
    return "checks-" + sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _check(
    sources: Mapping[Split, ParquetSource], schema: Schema, cache_dir: Path, fitting: Callable[[], ColumnFits]
) -> tuple[list[Finding], ColumnFits | None]:
    """Run the checks once for the same files and schema; later runs read what they found.

    What the encoder learns of the columns is gathered in the same pass, and returned where that was possible.
    """
    key = checks_key(schema, {split: source.fingerprint() for split, source in sources.items()})
    try:
        fits = fitting()
    except UserError:  # the checks say more of it, or else the encoder does when its turn comes
        fits = None
    beside = [] if fits is None else [Tentative(fits)]
    found = cached_json(
        cache_dir, key, lambda: [asdict(finding) for finding in check_splits(sources, schema, beside_train=beside)]
    )
    # where the findings came from the cache, no row was read, and the fits are empty
    return [Finding(**finding) for finding in found], fits if fits is not None and fits.complete else None
