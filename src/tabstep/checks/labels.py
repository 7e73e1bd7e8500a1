"""Checks on labels: missing ones, a single class, classes that only some splits have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tabstep.checks.findings import Finding, Severity
from tabstep.checks.profile import Label, Profile
from tabstep.encoding.labels import MAX_CLASSES

_Problem = tuple[Severity, str]


def label_sets(profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """Yield an error for labels that cannot be learned or scored, and a warning for classes that a split lacks."""
    train = profiles["train"].labels
    several = len(train) > 1
    usable = {
        name
        for name, label in train.items()
        if label.counts and all(severity != "error" for severity, _ in _own(label, several))
    }
    for split, found in profiles.items():
        for name, label in found.labels.items():
            problems = list(_missing(label, found.scanned))
            if split == "train":
                problems += _own(label, several)
            elif name in usable and label.complete:
                problems += _against_train(label, train[name])
            for severity, message in problems:
                yield Finding(
                    check="labels", split=split, column=name, severity=severity, message=f"label {name!r}: {message}"
                )


def _missing(label: Label, rows: int) -> Iterator[_Problem]:
    if label.missing:
        first = label.first_row[None]
        yield (
            "error",
            f"{label.missing:,} of {rows:,} are missing, first in row {first}: remove those rows, or set "
            "data.drop_unlabeled=true",
        )


def _own(label: Label, several: bool) -> Iterator[_Problem]:
    if label.fraction is not None and not several:
        row = label.first_row.get(label.fraction, 0)
        yield "error", f"{label.fraction} in row {row} is no integer: a label is a class; cut a quantity into classes"
    elif len(label.counts) > MAX_CLASSES:
        yield "error", f"more than {MAX_CLASSES:,} classes: is it an id or a quantity? set schema.label"
    elif len(label.counts) == 1:
        severity: Severity = "warning" if several else "error"
        yield severity, f"every row is {next(iter(label.counts))!r}: at least two classes are needed"
    else:
        yield from _alike(label)


def _alike(label: Label) -> Iterator[_Problem]:
    """Yield classes that are one to a reader: an error where only spaces tell them apart, else a warning."""
    seen: dict[str, str] = {}
    for text in sorted(label.counts, key=lambda text: -label.counts[text]):
        other = seen.setdefault(" ".join(text.split()).casefold(), text)
        if other == text:
            continue
        spaces = text.split() == other.split()
        severity: Severity = "error" if spaces else "warning"
        yield (
            severity,
            f"{text!r} ({label.counts[text]:,} of the rows, first in row {label.first_row.get(text, 0)}) differs from "
            f"{other!r} by {'spaces' if spaces else 'upper and lower case'} only, and would be a class of its own: "
            "write both alike",
        )


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
