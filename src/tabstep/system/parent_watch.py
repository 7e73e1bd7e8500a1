"""Processes that end with their parent, also when that one is killed and cannot say so."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from tabstep.errors import EXIT_RETRY

SECONDS = 0.5
"""Between two looks at the other process."""


def end_with(pid: int) -> None:
    """End this process at once, without another word, when the process ``pid`` has gone: its state is on the disk.

    A pipe would tell it sooner, but torchrun hands none on to the processes that it starts.
    """
    threading.Thread(target=_watch, args=(pid,), daemon=True, name="end_with").start()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that is dead and not yet waited for does not.

    >>> is_alive(os.getpid())
    True
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    try:
        # behind the last bracket, for the program's name in brackets may hold brackets and spaces
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:  # no Linux
        return True
    return state not in "ZX"


def _watch(pid: int) -> None:
    while is_alive(pid):
        time.sleep(SECONDS)
    # sys.exit would end this thread alone
    os._exit(EXIT_RETRY)
