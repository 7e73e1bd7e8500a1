"""The interface between the sweep loop and a runner: the job of a trial, its result, what a launcher may know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
class TrialResult:
    """How a trial ended: with a ``value``, or with an ``error``.

    ``stopped`` is the exception that ends the sweep too; the trial goes on with the next call. ``lost`` says that the
    machine was at fault, or something that killed its process: it is started again. ``seconds`` and ``usd`` are what
    it took where that is known better than by waiting, and ``place`` is the name of a job elsewhere.
    """

    number: int
    value: float | None = None
    error: str | None = None
    details: str = ""
    stopped: Exception | None = None
    lost: bool = False
    seconds: float | None = None
    usd: float | None = None
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class SweepContext:
    """What a launcher of tabstep's knows of the sweep when it makes its runner.

    ``descriptor`` is that of the lock, ``study`` the name of the sweep, ``spent`` what its trials have cost in dollars,
    and ``conf_dirs`` what ``--config-dir`` named. ``standalone`` turns a trial's overrides into those of one run.
    """

    descriptor: int
    study: str
    spent: float = 0.0
    conf_dirs: tuple[Path, ...] = ()
    standalone: Callable[[Sequence[str]], Sequence[str]]


class Runner(Protocol):
    """Runs jobs, ``slots`` at a time; ``elsewhere`` they cost money and know nothing of the other trials."""

    slots: int
    elsewhere: bool

    def check(self, jobs: Sequence[Job]) -> None:
        """Find what is wrong with jobs before the first one is started."""

    def start(self, job: Job) -> None:
        """Take a job."""

    def wait(self, seconds: float) -> list[TrialResult]:
        """Return the outcomes of jobs that have ended, perhaps none when the time is over."""

    def stop(self) -> None:
        """Let the running jobs save their state and end."""
