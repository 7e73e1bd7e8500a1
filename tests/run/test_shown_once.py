from __future__ import annotations

from typing import Any

from rich.table import Table

from tabstep.run.showing import WIDTH, folded, only_new


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


def test_a_table_of_other_numbers_has_been_told_and_a_line_has_not() -> None:
    told: list[Any] = []
    show = only_new(told.append, set())
    items = [table("12 rows"), table("1,345.5 rows"), "12 rows", "13 rows", table("12 columns")]
    for item in items:
        show(item)
    assert told == [items[0], "12 rows", "13 rows", items[4]]


def test_a_sentence_is_folded_and_what_is_copied_or_read_by_a_program_is_not() -> None:
    lines = folded("a warning: " + "why and what to do " * 12).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= WIDTH
    assert " ".join(map(str.strip, lines)) == ("a warning: " + "why and what to do " * 12).strip()
    for whole in ("model:       /" + "directory/" * 12, "Scores | " + "val_recall: 0.5 | " * 9, "short"):
        assert folded(whole) == whole
