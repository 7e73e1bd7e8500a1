"""A finding of the data checks, and how findings are shown and raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.table import Table
from rich.text import Text

from tabstep.errors import ProblemsError
from tabstep.system.sanitize import printable
from tabstep.tables.source import where_of

Severity = Literal["ok", "warning", "error"]

_COLORS: Final[dict[Severity, str]] = {"ok": "green", "warning": "yellow", "error": "red"}
_NAMED: Final = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table; ``column`` is None where it is about a whole split or several columns.

    >>> Finding(check="ids", split="val", column="id", severity="warning", message="3 ids are in train too").split
    'val'
    """

    check: str
    split: str
    column: str | None
    severity: Severity
    message: str


def about_columns(check: str, split: str, severity: Severity, found: Sequence[tuple[str, str]]) -> list[Finding]:
    """Return one finding a column and its message, or a single one that names the first few of many."""
    if len(found) <= _NAMED:
        return [
            Finding(check=check, split=split, column=name, severity=severity, message=f"column {name!r}: {message}")
            for name, message in found
        ]
    named = ", ".join(repr(name) for name, _ in found[:_NAMED])
    message = f"{len(found):,} columns ({named}, …): {found[0][1]} (the first of them)"
    return [Finding(check=check, split=split, column=None, severity=severity, message=message)]


def raise_errors(findings: Sequence[Finding], mode: Literal["strict", "warn", "off"]) -> None:
    """Raise every error at once when ``mode`` is strict.

    Raises:
        ProblemsError: one line for each error.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if mode == "strict" and errors:
        raise ProblemsError([f"{where_of(finding.split)}: {finding.message}" for finding in errors])


def warning_lines(findings: Sequence[Finding]) -> list[str]:
    """Return one line for each finding that may make a score too good or a model worse.

    Where rows of train repeat each other, in tables of few columns, those of val and test repeat them by chance.

    >>> warning_lines([Finding(check="ids", split="val", column="id", severity="warning", message="3 are in train")])
    ['data.val: 3 are in train']
    """
    found = [each for each in findings if each.severity == "warning"]
    alike = any((each.check, each.split) == ("duplicates", "train") for each in found)
    told = (each for each in found if each.check != "duplicates" or not alike)
    return [f"{where_of(each.split)}: {printable(each.message)}" for each in told]


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table for the terminal."""
    table = Table(title="Data checks", title_justify="left")
    for header in ("check", "split", "result", "finding"):
        table.add_column(header)
    for finding in findings:
        severity = Text(finding.severity, style=_COLORS[finding.severity])
        table.add_row(finding.check, finding.split, severity, Text(printable(finding.message)))
    return table
