"""Standard output by way of rich."""

from __future__ import annotations

import errno
import os

from rich.console import Console


class Terminal(Console):
    """A console where a reader that has gone is an error like any other: rich would end the process with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
