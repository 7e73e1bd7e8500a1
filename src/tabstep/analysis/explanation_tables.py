"""An explanation on a terminal: the columns that matter most, and of a handful of rows why each is as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.table import Table
from rich.text import Text

from tabstep.analysis.explanation import Explanation
from tabstep.log_lines import number
from tabstep.system.sanitize import printable

_SHOWN: Final = 20
_EACH_ROW: Final = 5


def explanation_tables(explanation: Explanation) -> Iterator[Table]:
    """Yield what a terminal shows: importances, and of a handful of rows why each is as it is."""
    if explanation.importances:
        yield importance_table(explanation)
    # of more rows than a person reads, the file has them
    if explanation.rows <= _EACH_ROW:
        yield from (row_table(explanation, row) for row in range(explanation.rows))


def importance_table(explanation: Explanation) -> Table:
    """Return the importances for a terminal."""
    table = Table(title=f"Importance: fall of {explanation.metric} when a column is permuted", title_justify="left")
    for header in ("column", "mean", "spread", ""):
        table.add_column(header, justify="left" if header in ("column", "") else "right")
    largest = max((importance.mean for importance in explanation.importances), default=0.0)
    for importance in explanation.importances[:_SHOWN]:
        bar = "█" * round(20 * max(0.0, importance.mean) / largest) if largest > 0 else ""
        table.add_row(Text(printable(importance.column)), number(importance.mean), number(importance.std), bar)
    return table


def row_table(explanation: Explanation, row: int) -> Table:
    """Return why one row is as it is: its largest attributions."""
    assert explanation.attributions is not None
    values = {
        name: column[row].as_py()
        for name, column in zip(explanation.attributions.column_names, explanation.attributions.columns, strict=True)
    }
    shares = {
        name.removeprefix("attribution_"): share for name, share in values.items() if name.startswith("attribution_")
    }
    name = row if explanation.id is None else printable(str(values[explanation.id]))
    title = f"Row {name}: log-odds of {printable(values['explained'])}, {number(values['log_odds'])}"
    table = Table(title=title, title_justify="left")
    table.add_column("column")
    table.add_column("attribution", justify="right")
    for name in sorted(shares, key=lambda name: -abs(shares[name]))[:_SHOWN]:
        table.add_row(Text(printable(name)), f"{shares[name]:+.4f}")
    table.add_row("(usual)", number(values["baseline"]))
    return table
