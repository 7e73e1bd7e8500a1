"""How a command ends: each exception becomes what a person reads on stderr, and the exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable

from tabstep.errors import EXIT_INTERNAL, EXIT_OK, EXIT_SIGINT, RetryError, StoppedError, UserError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def exit_code(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; say on stderr what went wrong.

    A ``UserError`` or ``RetryError`` is its message alone; with TABSTEP_TRACEBACK=1 its traceback comes first.
    """
    try:
        command()
    except (UserError, RetryError, StoppedError) as error:
        if os.environ.get("TABSTEP_TRACEBACK") == "1":
            traceback.print_exc()
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return EXIT_SIGINT
    except Exception as error:  # noqa: BLE001 the outermost frame: nothing is hidden
        traceback.print_exc()
        say(f"this is a fault of tabstep, not of your input: {type(error).__name__}: {error}")
        return EXIT_INTERNAL
    return EXIT_OK


def say(message: str) -> None:
    """Print to stderr, without what a hostile column or file name could make a terminal do."""
    print(_CONTROL.sub("�", message), file=sys.stderr)


def write_failure(error: OSError, what: str) -> Exception:
    """Return what a failed write means: a full disk may be emptied and tried again, a read-only place may not."""
    text = f"{what}: {error.strerror or error}" + (f": {error.filename!r}" if error.filename else "")
    return RetryError(text) if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError(text)
