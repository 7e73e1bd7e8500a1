"""The data checks before the first batch: what is wrong or odd in the splits, as findings in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from rich.table import Table
from rich.text import Text

from tabstep.columns import unify
from tabstep.errors import ProblemsError, nearest
from tabstep.inference import printable
from tabstep.leaks import THRESHOLD, leak_scores
from tabstep.profile import Profile, profile
from tabstep.schema import Schema
from tabstep.source import ParquetSource, where_of

Severity = Literal["ok", "warning", "error"]

MANY_MISSING: Final = 0.5
MANY_UNSEEN: Final = 0.05
MANY_EQUAL_ROWS: Final = 0.01
MANY_SHARED_IDS: Final = 0.5
MISSING_SHIFT: Final = 0.2
_NAMED: Final = 5
_COLORS: Final[dict[Severity, str]] = {"ok": "green", "warning": "yellow", "error": "red"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table of checks; ``column`` is None where it is about a whole split or several columns."""

    check: str
    split: str
    column: str | None
    severity: Severity
    message: str


def check_splits(
    sources: Mapping[str, ParquetSource], schema: Schema, *, row_limit: int = 5_000_000
) -> list[Finding]:
    """Check every split by itself and against train; ``sources`` has train first, and val and test where they are.

    Each split is read once. Tables of more than ``row_limit`` rows are judged by their first rows.
    """
    findings = _schema_findings(sources, schema)
    if findings:
        return findings
    profiles = {split: profile(source, schema, row_limit=row_limit) for split, source in sources.items()}
    findings = [_ok("schema", f"{len(schema.columns)} columns agree in {', '.join(sources)}")]
    findings += _rows_findings(profiles)
    for check, made in (
        ("files", _file_findings(sources)),
        ("ids", _id_findings(profiles, schema)),
        ("duplicates", _duplicate_findings(profiles)),
        ("labels", _label_findings(profiles)),
        ("missing", _missing_findings(profiles)),
        ("infinities", _infinite_findings(profiles)),
        ("constants", _constant_findings(profiles["train"])),
        ("categories", _category_findings(profiles)),
        ("leaks", _leak_findings(profiles["train"], schema)),
    ):
        these = list(made)
        findings += these or [_ok(check, _FINE[check])]
    return findings


_FINE: Final = {
    "files": "no file is in two splits",
    "ids": "none stands twice",
    "duplicates": "few or no equal rows",
    "labels": "every split has every class of train",
    "missing": f"no column lacks more than {MANY_MISSING:.0%}",
    "infinities": "none",
    "constants": "none",
    "categories": f"train has seen over {1 - MANY_UNSEEN:.0%} of each column's values",
    "leaks": "no column alone gives the label away",
}


def _ok(check: str, message: str) -> Finding:
    return Finding(check=check, split="all", column=None, severity="ok", message=message)


def raise_errors(findings: Sequence[Finding], mode: Literal["strict", "warn", "off"]) -> None:
    """Raise every error at once when ``mode`` is strict.

    Raises:
        ProblemsError: one line for each error.
    """
    if mode == "strict":
        problems = [
            f"{where_of(finding.split)}: {finding.message}" for finding in findings if finding.severity == "error"
        ]
        if problems:
            raise ProblemsError([*problems[:-1], f"{problems[-1]} (data.checks=warn goes on in spite of errors)"])


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table for the terminal."""
    table = Table(title="Data checks", title_justify="left")
    for header in ("check", "split", "", "finding"):
        table.add_column(header)
    for finding in findings:
        severity = Text(finding.severity, style=_COLORS[finding.severity])
        table.add_row(finding.check, finding.split, severity, Text(printable(finding.message)))
    return table


def _schema_findings(sources: Mapping[str, ParquetSource], schema: Schema) -> list[Finding]:
    """Return errors for columns that a split lacks, or has with a type that means something else than in train."""
    train = sources["train"].arrow_schema
    findings = []
    for split, source in sources.items():
        own = source.arrow_schema
        names = set(own.names)
        for name in schema.columns:
            if name not in names:
                message = f"column {name!r} is missing: {nearest(name, own.names)}"
            elif name in set(train.names) and unify(train.field(name).type, own.field(name).type) is None:
                message = (
                    f"column {name!r} is {own.field(name).type}, and {train.field(name).type} in train: "
                    "write both with one type"
                )
            else:
                continue
            findings.append(Finding(check="schema", split=split, column=name, severity="error", message=message))
    return findings


def _rows_findings(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    for split, found in profiles.items():
        if found.scanned < found.num_rows:
            message = f"the first {found.scanned:,} of {found.num_rows:,} rows are checked"
            yield Finding(check="rows", split=split, column=None, severity="ok", message=message)


def _file_findings(sources: Mapping[str, ParquetSource]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for split, source in sources.items():
        shared = [file for file in source.files if file in seen] if source.whole else []
        if shared:
            message = f"{shared[0]} is in {seen[shared[0]]} too: scores would mean nothing: give each split its own"
            yield Finding(check="files", split=split, column=None, severity="error", message=message)
        seen |= {file: split for file in source.files if source.whole}


def _id_findings(profiles: Mapping[str, Profile], schema: Schema) -> Iterator[Finding]:
    name = schema.id
    known: dict[str, np.ndarray] = {}
    for split, found in profiles.items():
        if found.id_hashes is None:
            return
        distinct = np.unique(found.id_hashes)
        repeated = found.scanned - len(distinct)
        if repeated:
            message = f"id {name!r}: {repeated:,} of {found.scanned:,} rows repeat an id"
            yield Finding(check="ids", split=split, column=name, severity="warning", message=message)
        for other, ids in known.items():
            shared = len(np.intersect1d(ids, distinct, assume_unique=True))
            if shared:
                too_many = shared > MANY_SHARED_IDS * min(len(ids), len(distinct))
                message = f"id {name!r}: {shared:,} of {len(distinct):,} ids stand in {other} too: split by id"
                severity: Severity = "error" if too_many else "warning"
                yield Finding(check="ids", split=split, column=name, severity=severity, message=message)
        known[split] = distinct


def _duplicate_findings(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Compare features and label, not the id."""
    train = np.unique(profiles["train"].row_hashes)
    for split, found in profiles.items():
        distinct = train if split == "train" else np.unique(found.row_hashes)
        repeated = found.scanned - len(distinct)
        if repeated > MANY_EQUAL_ROWS * found.scanned:
            message = f"{repeated:,} of {found.scanned:,} rows repeat another one (all features and the label)"
            yield Finding(check="duplicates", split=split, column=None, severity="warning", message=message)
        if split == "train":
            continue
        shared = int(np.count_nonzero(np.isin(found.row_hashes, train)))
        if shared > MANY_EQUAL_ROWS * found.scanned:
            message = f"{shared:,} of {found.scanned:,} rows stand in train too (all features and the label)"
            yield Finding(check="duplicates", split=split, column=None, severity="warning", message=message)


def _label_findings(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    for split, found in profiles.items():
        for name, label in found.labels.items():
            single = len(found.labels) == 1
            train = profiles["train"].labels[name]
            for severity, message in _label_problems(label, train, single=single, is_train=split == "train"):
                yield Finding(check="labels", split=split, column=name, severity=severity, message=message)


def _label_problems(label: object, train: object, *, single: bool, is_train: bool) -> list[tuple[Severity, str]]:
    raise NotImplementedError
