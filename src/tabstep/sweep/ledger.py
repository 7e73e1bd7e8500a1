"""The state of a sweep on disk, one file a trial: each is whole or as it was before, whatever is killed."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from tabstep.errors import RetryError, UserError
from tabstep.system.atomic_write import write_durably
from tabstep.system.parent_watch import is_alive

FORMAT = 1
HEADER, TRIALS, POINTER, PROGRESS, LOCK = "sweep.json", "trials", "trial.json", "progress.json", ".sweep.lock"
WAIT_SECONDS = 60.0

T = TypeVar("T")
State = Literal["running", "complete", "pruned", "failed"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial. ``running`` is also the state of one that was interrupted.

    ``params`` are the values that differ between trials, as they stand behind the ``=`` of an override. ``sees`` is
    how many of the first trials the choice of its values and its pruning rest on. ``values`` holds a number for each
    objective, and is empty for a trial that failed. ``curve`` is the best first objective up to each epoch. ``scores``
    are the numbers of its report.
    """

    number: int
    state: State
    params: Mapping[str, str]
    overrides: Sequence[str]
    directory: str  # relative to the sweep's
    sees: int = 0
    values: Sequence[float] = field(default_factory=list)
    curve: Sequence[float | None] = field(default_factory=list)
    epochs: int = 0
    seconds: float = 0.0
    usd: float | None = None
    error: str = ""
    place: str = ""  # the name of its job, where it ran elsewhere
    attempts: int = 0
    scores: Mapping[str, float | None] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)  # what a sampler or a pruner keeps with a trial

    @property
    def finished(self) -> bool:
        """Whether it is never run again."""
        return self.state != "running"


@dataclass(frozen=True, kw_only=True)
class Header:
    """What all trials of a sweep have in common; ``base`` is the configuration that the trials change."""

    objectives: Sequence[str]
    directions: Sequence[Direction]
    space: Mapping[str, str]  # key: dimension in Hydra's grammar
    sampler: str
    pruner: str
    seed: int
    study: str
    base: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""  # that began the sweep, or last went on with it
    format: int = FORMAT


@dataclass(frozen=True)
class Ledger:
    """The header and the trials of the sweep in ``directory``, in the order of their numbers."""

    directory: Path
    header: Header
    trials: list[Trial]

    @property
    def sign(self) -> float:
        """1 where a larger first objective is better, else -1."""
        return 1.0 if self.header.directions[0] == "maximize" else -1.0

    def path(self, trial: Trial) -> Path:
        """Return the directory of a trial."""
        return self.directory / trial.directory

    def save(self, trial: Trial) -> None:
        """Keep a trial, new or changed."""
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            self.trials[trial.number] = trial
        folder = self.directory / TRIALS
        write_durably(folder / f"{trial.number:06d}.json", _dump(dataclasses.asdict(trial)))


def read_sweep(directory: Path) -> Ledger:
    """Read the sweep in a directory; safe while it runs.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    file = directory / HEADER
    if not file.is_file():
        raise UserError(
            f"{directory}: holds no sweep (there is no {HEADER}): name the directory hydra.sweep.dir of one"
        )
    try:
        header = _load(Header, file)
        if header.format != FORMAT:
            raise UserError(f"{file}: has format {header.format}, this version reads {FORMAT}")
        trials = [_load(Trial, path) for path in sorted((directory / TRIALS).glob("*.json"))]
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{directory}: the sweep's files cannot be read: {error}") from error
    # trials rest on those before them: a gap would change what comes after it
    if [trial.number for trial in trials] != list(range(len(trials))):
        raise UserError(f"{directory / TRIALS}: the file of a trial is missing: put it back, or start another sweep")
    return Ledger(directory, header, trials)


def create_sweep(directory: Path, header: Header) -> Ledger:
    """Start a sweep in a directory; the header is written last."""
    (directory / TRIALS).mkdir(exist_ok=True)
    write_header(directory, header)
    return Ledger(directory, header, [])


def write_header(directory: Path, header: Header) -> None:
    """Write what the trials have in common."""
    write_durably(directory / HEADER, _dump(dataclasses.asdict(header)))


def read_json(file: Path) -> dict[str, Any]:
    """Read a file that a trial may not have written, or not yet: then it is empty."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def finite(value: Any) -> float | None:
    """Return a finite number, or None for anything else.

    >>> finite(1), finite(float("nan")), finite("x"), finite(True)
    (1.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


@contextmanager
def locked(directory: Path, *, seconds: float = WAIT_SECONDS) -> Iterator[int]:
    """Hold the directory of a sweep, and return the descriptor that trials in other processes inherit.

    The trials of a sweep that was killed hold it until they have ended too, which is waited for.

    Raises:
        UserError: another sweep runs there, or it cannot be written.
        RetryError: the trials of a killed sweep do not end.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # a+ neither fails where the file is missing nor empties that of a living sweep
        file = open(directory / LOCK, "a+")  # noqa: SIM115 - held until the sweep ends
    except OSError as error:
        raise UserError(f"hydra.sweep.dir: cannot write to {directory}: {error.strerror}") from error
    with file:
        _acquire(file, directory, seconds)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _acquire(file: IO[str], directory: Path, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip()
            if holder.isdecimal() and is_alive(int(holder)):
                raise UserError(
                    f"hydra.sweep.dir: another sweep (process {holder}) is running in {directory}: wait for it, or "
                    "choose another directory"
                ) from error
            # its holder is gone: trials that have inherited the descriptor still hold the lock
            if time.monotonic() > ends:
                raise RetryError(f"{directory}: trials of a sweep that was killed are still running") from error
        time.sleep(0.1)


def _dump(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1, allow_nan=False, default=str).encode()


def _load(cls: type[T], file: Path) -> T:
    return cls(**json.loads(file.read_text(encoding="utf-8")))
