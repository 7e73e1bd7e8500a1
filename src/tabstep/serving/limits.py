"""How much a request may ask for: a small body can stand for very many rows, columns or bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from tabstep.errors import UserError
from tabstep.serving.request_error import TOO_LARGE, RequestError

_PREFIX: Final = "TABSTEP_"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that is read of one request; an environment variable of each one's name sets another."""

    max_request_bytes: int = 25 * 2**20
    """Of the body; a real-time endpoint of SageMaker passes on no more."""
    max_request_rows: int = 100_000
    """About seven seconds of work for a small model on one core."""
    max_request_columns: int = 10_000
    max_request_expansion: int = 512 * 2**20
    """Bytes of the rows when they are no longer compressed."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Limits:
        """Read ``TABSTEP_MAX_REQUEST_ROWS`` and the like.

        Raises:
            UserError: one of them is no positive integer.
        """
        found: dict[str, int] = {}
        for field in fields(cls):
            text = environ.get(_variable(field.name))
            if text is None:
                continue
            if not (text.isascii() and text.isdecimal() and int(text)):
                raise UserError(f"{_variable(field.name)}: a positive integer is due, got {text!r}")
            found[field.name] = int(text)
        return cls(**found)

    def check(self, name: str, count: int, what: str) -> None:
        """Refuse more than the limit ``name`` allows.

        Raises:
            RequestError: 413.
        """
        limit: int = getattr(self, name)
        if count > limit:
            raise RequestError(
                f"{what}, at most {limit:,} are read: send less at a time, or set {_variable(name)}", TOO_LARGE
            )


def _variable(name: str) -> str:
    return _PREFIX + name.upper()
