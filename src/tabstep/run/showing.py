"""What a run says: lines and tables on standard output, each told once, and warnings as one line each."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from tabstep.run.prepare import Show
from tabstep.system.terminal import Terminal


@contextmanager
def plain_messages() -> Iterator[None]:
    """Show a warning as one line without the source it came from, and of Lightning only what needs attention."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr, flush=True)
        # Lightning 2.6.6 asks torch 2.13 in a way that torch has deprecated.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        yield


def only_new(show: Show, shown: set[str]) -> Show:
    """Return what shows an item unless its text is in ``shown``, and keeps it there."""

    def show_new(item: Any) -> None:
        console = Console(width=200, file=io.StringIO())
        with console.capture() as text:
            console.print(item)
        if text.get() not in shown:
            shown.add(text.get())
            show(item)

    return show_new


def shower(*, silent: bool) -> Show:
    """Return what prints to standard output, as wide as the terminal, or nothing."""
    if silent:
        return lambda _: None
    console = Terminal(soft_wrap=False) if sys.stdout.isatty() else Terminal(width=120)

    def show(item: Any) -> None:
        if isinstance(item, str):
            print(item, flush=True)
        else:
            console.print(item)

    return show
