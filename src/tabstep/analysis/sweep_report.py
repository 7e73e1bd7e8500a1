"""``report.html`` of a sweep that has ended, made anew from its directory."""

from __future__ import annotations

from pathlib import Path

from tabstep.sweep.html_report import write_report
from tabstep.sweep.importance import importances
from tabstep.sweep.ledger import HEADER, read_sweep
from tabstep.sweep.space import parse_space


def is_sweep(directory: Path) -> bool:
    """Tell whether a directory is that of a sweep."""
    return (directory / HEADER).is_file()


def report_sweep(directory: Path) -> Path:
    """Write the page of a sweep and return it.

    Raises:
        UserError: its files cannot be read, or the page cannot be written.
    """
    ledger = read_sweep(directory)
    dimensions = parse_space([f"{key}={text}" for key, text in ledger.header.space.items()]).dimensions
    return write_report(ledger, dimensions, importances(ledger, dimensions))
