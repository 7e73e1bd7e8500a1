"""All data checks over all splits, each split read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tabstep.checks import columns, labels, rows
from tabstep.checks.findings import Finding, about_columns
from tabstep.checks.profile import ROW_LIMIT, Profile, profile
from tabstep.errors import nearest
from tabstep.schema import Schema, Split
from tabstep.tables.column_types import fits, value_kind
from tabstep.tables.scan import Collector
from tabstep.tables.source import ParquetSource


def check_splits(
    sources: Mapping[Split, ParquetSource],
    schema: Schema,
    *,
    row_limit: int = ROW_LIMIT,
    beside_train: Sequence[Collector] = (),
    train: Profile | None = None,
) -> list[Finding]:
    """Check every split by itself and against train; ``sources`` has train, and val and test where they are.

    Of a split with more than ``row_limit`` rows, the first ones are looked at. When columns are missing or of another
    type the findings are those alone: nothing else can be compared. ``beside_train`` take the rows of train in the same
    pass; nothing of it is read where its profile is known.
    """
    findings = list(_schema_findings(sources, schema))
    if findings:
        return findings
    profiles: dict[str, Profile] = {
        split: train
        if train is not None and split == "train"
        else profile(source, schema, row_limit=row_limit, beside=beside_train if split == "train" else ())
        for split, source in sources.items()
    }
    made = {
        "files": rows.shared_files(sources),
        "rows": _partly_read(profiles),
        "ids": rows.ids(profiles, schema),
        "duplicates": rows.duplicates(profiles),
        "labels": labels.label_sets(profiles),
        "missing": columns.missing(profiles),
        "infinities": columns.infinities(profiles),
        "constants": columns.constants(profiles["train"]),
        "categories": columns.categories(profiles),
        "leaks": columns.leaks(profiles["train"], schema),
    }
    findings = [_ok("schema", f"{len(schema.columns):,} columns agree in {', '.join(sources)}")]
    for check, found in made.items():
        findings += list(found) or [_ok(check, _FINE[check])]
    return findings


_FINE = {
    "files": "no file is in two splits",
    "rows": "all are checked",
    "ids": "each appears once",
    "duplicates": "few or none",
    "labels": "no split has other classes than train",
    "missing": "no column lacks more than half of its values",
    "infinities": "none",
    "constants": "none",
    "categories": "train has seen nearly all values of val and test",
    "leaks": "no column alone gives the label away",
}


def _ok(check: str, message: str) -> Finding:
    return Finding(check=check, split="all", column=None, severity="ok", message=message)


def _schema_findings(sources: Mapping[Split, ParquetSource], schema: Schema) -> Iterator[Finding]:
    """Yield an error for a column that a split lacks, or has with a type that means something else than in train."""
    train = dict(zip(sources["train"].arrow_schema.names, sources["train"].arrow_schema.types, strict=True))
    for split, source in sources.items():
        own = dict(zip(source.arrow_schema.names, source.arrow_schema.types, strict=True))
        lacking = [name for name in schema.columns if name not in own]
        found = [(name, source.conflicts.get(name, _missing(name, split, own, schema))) for name in lacking]
        found += [
            (name, f"is {own[name]}, and {train[name]} in train: write both with one type")
            for name in schema.columns
            if name in own and name in train and not fits(value_kind(train[name]), own[name])
        ]
        yield from about_columns("schema", split, "error", found)


def _missing(name: str, split: str, own: Mapping[str, object], schema: Schema) -> str:
    if split == "test" and name in schema.label:
        return "the label is missing: a test is scored; leave out data.test, and give these rows to `tabstep predict`"
    return f"is missing: {nearest(name, own)}"


def _partly_read(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    for split, found in profiles.items():
        if found.scanned < found.num_rows:
            message = f"the first {found.scanned:,} of {found.num_rows:,} rows are checked"
            yield Finding(check="rows", split=split, column=None, severity="ok", message=message)
