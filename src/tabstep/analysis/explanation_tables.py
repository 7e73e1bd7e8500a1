"""An explanation on a terminal: the columns that matter most, and of a handful of rows why each is as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from tabstep.analysis.explanation import Explanation
from tabstep.log_lines import number
from tabstep.system.sanitize import printable

_SHOWN: Final = 20
_EACH_ROW: Final = 5
_VALUE_WIDTH: Final = 32


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
    """Return why one row is as it is: what its columns hold, with its largest attributions."""
    assert explanation.attributions is not None
    assert explanation.values is not None
    (said,) = explanation.attributions.slice(row, 1).to_pylist()
    (values,) = explanation.values.slice(row, 1).to_pylist()
    shares = {name: said[f"attribution_{name}"] for name in explanation.values.column_names}
    name = row if explanation.id is None else printable(str(said[explanation.id]))
    title = f"Row {name}: {printable(said['explained'])} with probability {number(said['probability'])}"
    # a title is folded to the width of its table
    table = Table(title=title, title_justify="left", min_width=len(title) + 1)
    table.add_column("column")
    table.add_column("value", max_width=_VALUE_WIDTH, overflow="ellipsis", no_wrap=True)
    table.add_column("attribution", justify="right")
    for name in sorted(shares, key=lambda name: -abs(shares[name]))[:_SHOWN]:
        table.add_row(Text(printable(name)), Text(_value(values[name])), f"{shares[name]:+.4f}")
    table.add_row("(usual)", "", number(said["baseline"]), end_section=True)
    table.add_row("(log-odds)", "", number(said["log_odds"]))
    return table


def _value(value: Any) -> str:
    """Return what a cell holds; of a number, the digits that are told apart at a glance.

    >>> _value(None), _value(0.1 + 0.2), _value(True), _value("a")
    ('', '0.3', 'True', 'a')
    """
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
