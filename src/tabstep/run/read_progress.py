"""How far the reading of a table is, where it takes long enough for a person to wonder."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Literal

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tabstep.log_lines import duration
from tabstep.system.terminal import Terminal

PATIENCE: Final = 2.0
"""Seconds of a pass before anything is shown of it."""
LINE_SECONDS: Final = 5.0


class ReadProgress:
    """Shows a pass over a split by its rows and the time left: a bar on a terminal, a line every few seconds in a log.

    It is called with the name of a split, the rows read and the rows in all, after each batch.

    >>> with ReadProgress("none") as watch:
    ...     watch("data.train", 10, 100)
    """

    def __init__(self, progress: Literal["auto", "bar", "lines", "none"]) -> None:
        self._shown = progress != "none"
        self._has_bar = progress == "bar" or (progress == "auto" and sys.stdout.isatty())
        self._pass = ("", 0)
        self._first = 0
        self._started = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ReadProgress:
        """Return the progress."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Give the terminal back."""
        self._close()

    def __call__(self, where: str, done: int, total: int) -> None:
        """Take note of ``done`` of ``total`` rows of the split ``where``; fewer than before begin another pass."""
        now = time.monotonic()
        if where != self._pass[0] or done <= self._pass[1]:
            self._close()
            self._started = self._last = now  # of a pass, the first batch is not timed
            self._first = done
        self._pass = (where, done)
        seconds, rows = now - self._started, done - self._first
        if not self._shown or seconds < PATIENCE or not rows:
            return
        left = duration((total - done) * seconds / rows)
        text = f"{where}: {done:,} of {total:,} rows read, {left} left"
        if self._has_bar:
            self._draw(text, done, total)
        # the first line as soon as it is worth one, the others every few seconds
        elif done < total and (self._last == self._started or now - self._last >= LINE_SECONDS):
            self._last = now
            print(text, flush=True)

    def _draw(self, text: str, done: int, total: int) -> None:
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn())
            self._bar = Progress(*columns, console=Terminal(), transient=True, refresh_per_second=4)
            self._bar.start()
            self._task = self._bar.add_task(text, total=total)
        assert self._task is not None
        self._bar.update(self._task, description=text, completed=done)
        if done == total:
            self._close()

    def _close(self) -> None:
        """A bar that is left running would hide the cursor for good."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None
