"""The HTML report of a sweep: one self-contained page, and its plots as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tabstep.log_lines import number
from tabstep.page.document import Section, command, document, figure, paragraph
from tabstep.page.pictures import can_draw, styled, to_png, to_svg
from tabstep.page.table import Cell, Link, table
from tabstep.run_files import PAGE
from tabstep.sweep.distributions import Dimension
from tabstep.sweep.leaderboard import best_trial, rows
from tabstep.sweep.ledger import Ledger
from tabstep.sweep.plots import figures
from tabstep.sweep.seeds import repetitions
from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import writing

PLOTS: Final = "plots"
_MOST_ROWS: Final = 1_000
_CAPTIONS: Final = {
    "history": "Each trial in its order, and the best so far",
    "curves": "The epochs of each trial: the best objective so far; dashed where it was pruned",
    "front": "Both objectives, and the trials that none other beats in both",
    "slices": "Each key against the objective; later trials are lighter",
    "parallel": "All keys at once: a line is a trial",
    "importance": "Share of each key in the differences of the objective",
}


def write_report(ledger: Ledger, dimensions: Mapping[str, Dimension], shares: Mapping[str, float]) -> Path:
    """Write ``report.html`` and ``plots/*.png`` into the sweep's directory and return the page.

    The page loads nothing from elsewhere; its one script sorts tables. Without matplotlib it has no pictures.

    Raises:
        UserError: the directory cannot be written.
    """
    page = ledger.directory / PAGE
    with writing(f"{page}: cannot be written"):
        svgs = _draw(ledger, dimensions, shares) if can_draw() else {}
        write_durably(page, html(ledger, svgs).encode())
    return page


def _draw(ledger: Ledger, dimensions: Mapping[str, Dimension], shares: Mapping[str, float]) -> dict[str, str]:
    """Write the pictures as files and return them for the page."""
    drawn = figures(ledger, dimensions, shares)
    (ledger.directory / PLOTS).mkdir(exist_ok=True)
    with styled():
        for name, picture in drawn.items():
            write_durably(ledger.directory / PLOTS / f"{name}.png", to_png(picture))
        return {name: to_svg(picture, _CAPTIONS[name]) for name, picture in drawn.items()}


def html(ledger: Ledger, pictures: Mapping[str, str]) -> str:
    """Return the page; every name and value in it is escaped."""
    sections = [
        Section(title="Trials", parts=[_leaderboard(ledger), *_more(ledger)]),
        Section(title="Seeds", parts=_seeds(ledger)),
        Section(
            title="Pictures",
            parts=[figure(picture, _CAPTIONS[name], wide=True) for name, picture in pictures.items()],
        ),
        Section(title="What failed", parts=_failures(ledger)),
    ]
    lead = [paragraph(line) for line in summary(ledger)]
    if ledger.header.command:
        lead.append(command(ledger.header.command))
    return document(f"Sweep {ledger.directory.resolve().name}", lead, sections)


def summary(ledger: Ledger) -> list[str]:
    """Say in a few lines what was searched and what came out."""
    counts = Counter(trial.state for trial in ledger.trials)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    pairs = zip(ledger.header.objectives, ledger.header.directions, strict=True)
    lines = [
        f"{len(ledger.trials)} trials: {states}.",
        f"Objective: {', '.join(f'{direction} {name}' for name, direction in pairs)}.",
    ]
    best = best_trial(ledger)
    if best is not None:
        values = ", ".join(
            f"{name} {number(value)}" for name, value in zip(ledger.header.objectives, best.values, strict=True)
        )
        params = ", ".join(f"{key}={text}" for key, text in best.params.items())
        lines.append(f"Best: trial {best.number} with {values} at {params or 'the values that all trials share'}.")
    return lines


def _leaderboard(ledger: Ledger) -> str:
    found = rows(ledger)
    if not found:
        return ""
    head = [key for key in found[0] if key not in ("directory", "error")]
    cells = [[_cell(ledger, row, key) for key in head] for row in found[:_MOST_ROWS]]
    return table(head, cells, classes=[str(row["state"]) for row in found[:_MOST_ROWS]])


def _cell(ledger: Ledger, row: Mapping[str, Any], key: str) -> Cell:
    """Return a value of the leaderboard; the number of a trial leads to its own page, where it has one."""
    value: Cell = row[key]
    page = Path(str(row["directory"])) / PAGE
    if key == "trial" and (ledger.directory / page).is_file():
        return Link(str(value), page.as_posix())
    return value


def _more(ledger: Ledger) -> list[str]:
    left = len(ledger.trials) - _MOST_ROWS
    return [paragraph(f"… and {left} more in leaderboard.csv", kind="muted")] if left > 0 else []


def _seeds(ledger: Ledger) -> list[str]:
    groups = repetitions(ledger)
    if not groups:
        return []
    keys = list(groups[0].params)
    cells: list[Sequence[Cell]] = [
        [*group.params.values(), len(group.trials), group.mean, group.std, min(group.values), max(group.values)]
        for group in groups
    ]
    name = ledger.header.objectives[0]
    note = "A seed is no hyperparameter: choose by the mean over seeds, and mind the spread."
    return [
        table([*keys, "seeds", f"mean {name}", "spread", "lowest", "highest"], cells),
        paragraph(note, kind="muted"),
    ]


def _failures(ledger: Ledger) -> list[str]:
    failed: list[Sequence[Cell]] = [
        [trial.number, " ".join(trial.error.split())] for trial in ledger.trials if trial.state == "failed"
    ]
    return [table(["trial", "error"], failed)] if failed else [paragraph("Nothing.", kind="good")]
