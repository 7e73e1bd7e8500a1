"""What is wrong with a request, and the HTTP status that says whose fault it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tabstep.errors import UserError, nearest

MALFORMED: Final = 400
NOT_ACCEPTABLE: Final = 406
TOO_LARGE: Final = 413
UNSUPPORTED: Final = 415
_SHOWN: Final = 120


class RequestError(UserError):
    """A request that cannot be answered; ``status`` is the HTTP status that says whose fault it is."""

    def __init__(self, message: str, status: int = MALFORMED) -> None:
        super().__init__(message)
        self.status = status


def shown(text: str) -> str:
    """Return the first line of what came from outside, cut to a length that a status line can carry."""
    line = (text.strip() or "unreadable").splitlines()[0]
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def missing_column(name: str, present: Sequence[str], where: str = "") -> RequestError:
    """Return the error for a column that a request lacks."""
    return RequestError(f"{where}column {name!r} is missing: {shown(nearest(name, present))}")
