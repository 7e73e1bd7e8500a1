"""The HTML report of a sweep: one self-contained page, and its plots as files."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from tabstep.log_lines import number
from tabstep.run_files import PAGE
from tabstep.sweep.distributions import Dimension
from tabstep.sweep.leaderboard import best_trial, rows
from tabstep.sweep.ledger import Ledger
from tabstep.sweep.plots import figures, to_png
from tabstep.system.atomic_write import write_durably
from tabstep.system.exits import writing
from tabstep.system.sanitize import printable

PLOTS: Final = "plots"
_MOST_ROWS: Final = 100
_CAPTIONS: Final = {
    "history": "Each trial in its order, and the best so far",
    "front": "Both objectives, and the trials that none other beats in both",
    "slices": "Each key against the objective; later trials are lighter",
    "parallel": "All keys at once: a line is a trial",
    "importance": "Share of each key in the differences of the objective",
}
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
img { max-width: 100%; height: auto; } figure { margin: 1.5rem 0; } figcaption { color: #555; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { padding: 2px 8px; border-bottom: 1px solid #ddd; text-align: right; } th { background: #f3f3f3; }
td.text { text-align: left; } tr.failed, tr.pruned { color: #888; }
"""


def write_report(ledger: Ledger, dimensions: Mapping[str, Dimension], shares: Mapping[str, float]) -> Path:
    """Write ``report.html`` and ``plots/*.png`` into the sweep's directory and return the page.

    The page loads nothing from elsewhere and runs no script.

    Raises:
        UserError: matplotlib is missing, or the directory cannot be written.
    """
    pictures = {name: to_png(figure) for name, figure in figures(ledger, dimensions, shares).items()}
    page = ledger.directory / PAGE
    with writing(f"{page}: cannot be written"):
        (ledger.directory / PLOTS).mkdir(exist_ok=True)
        for name, picture in pictures.items():
            write_durably(ledger.directory / PLOTS / f"{name}.png", picture)
        write_durably(page, html(ledger, pictures).encode())
    return page


def html(ledger: Ledger, pictures: Mapping[str, bytes]) -> str:
    """Return the page; every name and value in it is escaped."""
    title = f"Sweep {ledger.directory.resolve().name}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width">',
            f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{_text(title)}</h1>",
            *(f"<p>{_text(line)}</p>" for line in summary(ledger)),
            *(_figure(name, picture) for name, picture in pictures.items()),
            *_leaderboard(rows(ledger), ledger.header.objectives),
            "</body></html>",
            "",
        ]
    )


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


def _figure(name: str, picture: bytes) -> str:
    caption = _text(_CAPTIONS[name])
    data = base64.b64encode(picture).decode()
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _leaderboard(table: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> list[str]:
    if not table:
        return []
    head = "".join(f"<th>{_text(key)}</th>" for key in table[0])
    lines = [f"<h2>Leaderboard</h2><div class=scroll><table><tr>{head}</tr>"]
    for row in table[:_MOST_ROWS]:
        cells = "".join(_cell(value) for value in row.values())
        lines.append(f'<tr class="{_text(str(row["state"]))}">{cells}</tr>')
    lines.append("</table></div>")
    if len(table) > _MOST_ROWS:
        lines.append(f"<p>… and {len(table) - _MOST_ROWS} more in leaderboard.csv</p>")
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f'<td class="text">{_text(value)}</td>'
    return f"<td>{'' if value is None else number(value) if isinstance(value, float) else value}</td>"


def _text(text: str) -> str:
    return escape(printable(text))
