from __future__ import annotations

from typing import Any

from rich.table import Table

from tabstep.run.showing import only_new


def table(*cells: str) -> Table:
    made = Table(title="Columns")
    for cell in cells:
        made.add_column(cell)
    return made


def test_what_was_told_is_not_told_again() -> None:
    told: list[Any] = []
    shown: set[str] = set()
    show = only_new(told.append, shown)
    items = [table("a", "b"), "a note", table("a", "b"), "a note", table("a", "c"), "another"]
    for item in items:
        show(item)
    assert told == [items[0], "a note", items[4], "another"]
    only_new(told.append, shown)(table("a", "b"))
    assert len(told) == 4
    only_new(told.append, set())(table("a", "b"))
    assert len(told) == 5
