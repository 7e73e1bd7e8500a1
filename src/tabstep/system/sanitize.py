"""Sanitizes text that others wrote for a terminal, an HTML page and a spreadsheet."""

from __future__ import annotations

from typing import Any, Final

_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")


def printable(text: str) -> str:
    """Replace control characters, which could drive the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def csv_cell(value: Any) -> Any:
    """Return what a CSV may hold: a text that a spreadsheet would run as a formula gets an apostrophe before it.

    >>> [csv_cell(value) for value in ("=HYPERLINK(A1)", "-0.5", "@sum", -0.5, "a=b", None)]
    ["'=HYPERLINK(A1)", '-0.5', "'@sum", -0.5, 'a=b', None]
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # float takes digits of other scripts and white space behind a number, too
    return text.isascii() and text[-1:].isalnum()
