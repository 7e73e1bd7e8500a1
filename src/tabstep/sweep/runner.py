"""What the loop of a sweep and a place where trials run say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """A trial that is ready to be run; ``config`` holds plain containers, ``composed`` is what Hydra made."""

    number: int
    overrides: tuple[str, ...]
    directory: Path
    config: dict[str, Any]
    composed: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended: with a ``value``, or with an ``error``.

    ``stopped`` is the exception that ends the sweep too; the trial goes on with the next call. ``lost`` says that the
    machine was at fault, or something that killed its process: it is started again.
    """

    number: int
    value: float | None = None
    error: str | None = None
    details: str = ""
    stopped: Exception | None = None
    lost: bool = False


class Runner(Protocol):
    """Runs jobs, ``slots`` at a time."""

    slots: int

    def start(self, job: Job) -> None:
        """Take a job."""

    def wait(self, seconds: float) -> list[Outcome]:
        """Return the outcomes of jobs that have ended, perhaps none when the time is over."""

    def stop(self) -> None:
        """Let the running jobs save their state and end."""
