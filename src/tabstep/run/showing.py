"""What a run says: lines and tables on standard output, each told once."""

from __future__ import annotations

import io
import re
import sys
import textwrap
import warnings
from typing import Any, Final

from rich.console import Console

from tabstep.run.prepared import Attention, Show
from tabstep.system.terminal import Terminal

WIDTH: Final = 100
"""Columns of what a run says; a terminal's tables are as wide as it is."""
_NUMBER: Final = re.compile(r"\d[\d.,]*")
_FRAME: Final = re.compile(r"[\s\u2500-\u257f]+")


def only_new(show: Show, shown: set[str]) -> Show:
    """Return what shows an item unless its text is in ``shown``, and keeps it there.

    A table that differs in its numbers alone has been told: those of folds and seeds count other rows.
    """

    def show_new(item: Any) -> None:
        console = Console(width=200, file=io.StringIO())
        with console.capture() as text:
            console.print(item)
        sentence = isinstance(item.shown if isinstance(item, Attention) else item, str)
        told = text.get() if sentence else _FRAME.sub(" ", _NUMBER.sub("0", text.get()))
        if told not in shown:
            shown.add(told)
            show(item)

    return show_new


def folded(text: str) -> str:
    r"""Return a sentence in lines of at most ``WIDTH`` columns; one with a path, or a line of scores, stays as it is.

    >>> print(folded("calibration: " + "word " * 20))
    calibration: word word word word word word word word word word word word word word word word word
      word word word
    >>> folded("model:       /" + "a" * 100).count("\n"), folded("Scores | " + "val_recall: 0.5 | " * 9).count("\n")
    (0, 0)
    """
    if len(text) <= WIDTH or " | " in text or "/" in text:
        return text
    return "\n".join(
        textwrap.fill(
            line,
            WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        for line in text.splitlines()
    )


def shower(*, silent: bool) -> Show:
    """Return what prints to standard output, as wide as the terminal; where ``silent``, what gives warnings alone."""
    if silent:
        return _warn
    console = Terminal(soft_wrap=False) if sys.stdout.isatty() else Terminal(width=WIDTH)

    def show(item: Any) -> None:
        item = item.shown if isinstance(item, Attention) else item
        if isinstance(item, str):
            print(folded(item), flush=True)
        else:
            console.print(item)

    return show


def _warn(item: Any) -> None:
    if isinstance(item, Attention):
        for line in item.warnings:
            warnings.warn(line, stacklevel=3)


def nothing(_: Any) -> None:
    """Show nothing: the first rank says it."""
