"""The trials of a sweep as a table, best first: for people as CSV and for programs as parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tabstep.sweep.ledger import Ledger, Trial
from tabstep.system.atomic_write import write_durably
from tabstep.system.sanitize import csv_cell

CSV, PARQUET = "leaderboard.csv", "leaderboard.parquet"
HEAD: Final = ("rank", "trial", "state")
TAIL: Final = ("job", "error", "directory")
Row = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """A trial with its rank from 1, None for one without a result; ``front`` counts Pareto fronts of two objectives."""

    trial: Trial
    rank: int | None
    front: int | None = None


def standings(ledger: Ledger) -> list[Standing]:
    """Return the trials, best first; those without a result come last.

    With two objectives, those that no other trial beats in both come first, the better in the first objective before.
    """
    scored = [trial for trial in ledger.trials if trial.finished and trial.values]
    # as costs: of each objective less is better
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in ledger.header.directions]
    costs = {trial.number: tuple(s * v for s, v in zip(signs, trial.values, strict=True)) for trial in scored}
    fronts = pareto_fronts(costs) if len(signs) > 1 else dict.fromkeys(costs, 1)
    ordered = sorted(scored, key=lambda trial: (fronts[trial.number], costs[trial.number], trial.number))
    best = [
        Standing(trial, rank, fronts[trial.number] if len(signs) > 1 else None)
        for rank, trial in enumerate(ordered, start=1)
    ]
    return best + [Standing(trial, None) for trial in ledger.trials if trial.number not in costs]


def pareto_fronts(costs: Mapping[int, Sequence[float]]) -> dict[int, int]:
    """Return the front of each point, from 1: the first is beaten by none, the second by the first alone, and so on.

    >>> pareto_fronts({0: (1, 2), 1: (2, 1), 2: (2, 2)})
    {0: 1, 1: 1, 2: 2}
    """
    left = dict(costs)
    fronts: dict[int, int] = {}
    front = 0
    while left:
        front += 1
        first = [key for key, point in left.items() if not any(_beats(other, point) for other in left.values())]
        fronts |= dict.fromkeys(first, front)
        left = {key: point for key, point in left.items() if key not in fronts}
    return fronts


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def best_trial(ledger: Ledger) -> Trial | None:
    """Return the trial of rank 1, or None while none has a result."""
    first = next(iter(standings(ledger)), None)
    return first.trial if first is not None and first.rank == 1 else None


def rows(ledger: Ledger) -> list[Row]:
    """Return one row a trial, best first, all with the same keys in the same order."""
    header, found = ledger.header, []
    names = sorted({name for trial in ledger.trials for name in trial.scores} - {"seconds", "epochs"})
    scores = [name for name in names if name not in header.objectives]
    for standing in standings(ledger):
        trial = standing.trial
        values = dict(zip(header.objectives, trial.values, strict=False))
        row: Row = {"rank": standing.rank, "trial": trial.number, "state": trial.state}
        row |= dict.fromkeys(header.objectives)
        if len(header.objectives) > 1:
            row["front"] = standing.front
        row |= {"epochs": trial.epochs, "seconds": round(trial.seconds, 3), "usd": trial.usd}
        row |= {name: values.get(name) for name in header.objectives}  # its own seconds, where they are an objective
        row |= {key.lstrip("+"): plain_value(trial.params.get(key, "")) for key in header.space}
        row |= {name: trial.scores.get(name) for name in scores}
        row |= {"job": trial.place} if any(each.place for each in ledger.trials) else {}
        found.append(row | {"error": trial.error, "directory": trial.directory})
    return found


def plain_value(text: str) -> Any:
    """Return a value of an override as a number where it is one, else as text without its quotes.

    >>> plain_value("64"), plain_value("1e-3"), plain_value("mlp"), plain_value("'a b'")
    (64, 0.001, 'mlp', 'a b')
    """
    kinds: tuple[Callable[[str], Any], ...] = (int, float)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def write_leaderboard(ledger: Ledger, *, parquet: bool = True) -> None:
    """Write the table anew to the sweep's directory."""
    found = rows(ledger)
    if not found:
        return
    write_durably(ledger.directory / CSV, to_csv(found).encode())
    if parquet:
        write_durably(ledger.directory / PARQUET, to_parquet(found))


def to_csv(found: Sequence[Row]) -> str:
    """Write rows as CSV; a text that a spreadsheet would run as a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in found)
    return text.getvalue()


def to_parquet(found: Sequence[Row]) -> bytes:
    """Write rows as a parquet file; a column of mixed values becomes text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {key: _column([row[key] for row in found], key) for key in found[0]}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, write_page_checksum=True)
    return bytes(sink.getvalue())


def _column(values: Sequence[Any], key: str) -> Any:
    import pyarrow as pa

    present = [value for value in values if value is not None]
    # by name: a column of nothing but None has no type of its own
    if key in (*HEAD[:2], "epochs", "front"):
        return pa.array(values, pa.int64())
    if any(isinstance(value, str) for value in present) or key in TAIL:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if present and all(isinstance(value, int) for value in present):
        return pa.array(values, pa.int64())
    return pa.array([None if value is None or math.isnan(value) else float(value) for value in values], pa.float64())
