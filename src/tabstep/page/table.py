"""Tables of a page: sortable by a click on a heading, scrolled sideways where they are wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias
from urllib.parse import quote

from tabstep.log_lines import number
from tabstep.page.document import text


@dataclass(frozen=True)
class Link:
    """A cell that leads to another file, by its path relative to the page."""

    words: str
    path: str


@dataclass(frozen=True)
class Ranged:
    """A number with the bounds of its interval, or with a spread around it."""

    value: float
    low: float
    high: float


Cell: TypeAlias = "str | int | float | Link | Ranged | None"


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, classes: Sequence[str] = ()) -> str:
    """Return a table; a column of texts is aligned left.

    Args:
        classes: a class of the style sheet for each row.
    """
    if not rows:
        return ""
    left = [any(isinstance(row[place], str | Link) for row in rows) for place in range(len(head))]
    heads = "".join(
        f'<th data-sort tabindex="0"{" class=text" if to_left else ""}>{text(name)}</th>'
        for name, to_left in zip(head, left, strict=True)
    )
    lines = [f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>']
    for place, row in enumerate(rows):
        kind = f' class="{text(classes[place])}"' if classes and classes[place] else ""
        cells = "".join(_cell(value, to_left=to_left) for value, to_left in zip(row, left, strict=True))
        lines.append(f"<tr{kind}>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _cell(value: Cell, *, to_left: bool) -> str:
    if isinstance(value, Link):
        return f'<td class="text"><a href="{escape(quote(value.path))}">{text(value.words)}</a></td>'
    if isinstance(value, str):
        return f'<td class="text">{text(value)}</td>'
    if isinstance(value, Ranged):
        bounds = "" if math.isnan(value.low) else f" <small>{number(value.low)} – {number(value.high)}</small>"
        return f'<td class="num" data-v="{_sortable(value.value)}">{number(value.value)}{bounds}</td>'
    kind = "text" if to_left else "num"
    if value is None:
        return f'<td class="{kind}" data-v=""></td>'
    shown = number(value) if isinstance(value, float) else f"{value:,}"
    return f'<td class="{kind}" data-v="{_sortable(value)}">{shown}</td>'


def _sortable(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def heat_table(names: Sequence[str], counts: Sequence[Sequence[int]], corner: str) -> str:
    """Return counts ``(n, n)`` of classes (rows) taken for classes (columns), shaded by the share of the row."""
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    lines = [f'<div class="scroll"><table class="heat"><thead><tr><th>{text(corner)}</th>{heads}</tr></thead><tbody>']
    for name, row in zip(names, counts, strict=True):
        total = max(1, sum(row))
        cells = "".join(
            f'<td style="background: rgb(var(--heat) / {0.55 * count / total:.3f})">{count:,}'
            f"<br><small>{count / total:.0%}</small></td>"
            for count in row
        )
        lines.append(f'<tr><th scope="row">{text(name)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])
