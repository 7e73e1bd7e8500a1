"""Checks on labels: missing ones, a single class, classes that only some splits have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tabstep.checks.findings import Finding, Severity
from tabstep.checks.profile import Label, Profile

_Problem = tuple[Severity, str]


def label_sets(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Yield an error for labels that cannot be learned or scored, and a warning for classes that a split lacks."""
    train = profiles["train"].labels
    for split, found in profiles.items():
        for name, label in found.labels.items():
            problems = list(_missing(label, found.scanned))
            if split == "train":
                problems += _own_classes(label, several=len(train) > 1)
            elif label.complete and train[name].complete:
                problems += _against_train(label, train[name])
            for severity, message in problems:
                yield Finding(
                    check="labels", split=split, column=name, severity=severity, message=f"label {name!r}: {message}"
                )


def _missing(label: Label, rows: int) -> Iterator[_Problem]:
    if label.missing:
        first = label.first_row[None]
        yield "error", f"{label.missing:,} of {rows:,} are missing, first in row {first}: remove those rows"


def _own_classes(label: Label, *, several: bool) -> Iterator[_Problem]:
    if not label.complete:
        yield "error", f"more than {len(label.counts) - 1:,} distinct values: is it an id or a number to regress on?"
    elif len(label.counts) == 1:
        severity: Severity = "warning" if several else "error"
        yield severity, f"every row is {next(iter(label.counts))!r}: at least two classes are needed"


def _against_train(label: Label, train: Label) -> Iterator[_Problem]:
    new = [text for text in label.counts if text not in train.counts]
    if new:
        rows = sum(label.counts[text] for text in new)
        more = f" and {len(new) - 1:,} more" if len(new) > 1 else ""
        yield (
            "error",
            f"{new[0]!r}{more} not in train ({rows:,} rows, first in row {label.first_row.get(new[0], 0)}): "
            "remove those rows or split again",
        )
    lacking = [text for text in train.counts if text not in label.counts]
    if lacking:
        more = f", … ({len(lacking):,} in all)" if len(lacking) > 4 else ""
        yield (
            "warning",
            f"no row is {', '.join(map(repr, lacking[:4]))}{more}: some scores cannot be computed or leave it out",
        )
