"""What every tracker does with a run: once it has begun, whatever fails there is a warning and costs the run nothing.

Lightning's MLFlowLogger and WandbLogger are not used. Seen in lightning 2.6.6: the first cuts parameters at 250
characters; raises where a resumed run has another value of one; says that a run is finished when ``fit`` returns,
before there is a report, and failed when it is stopped in order; and its errors end the training after minutes of
tries. The second takes an earlier run of the process for its own. Neither knows which epochs are logged already.
"""

from __future__ import annotations

import importlib.util
import json
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from tabstep.errors import RetryError, UserError, led_to
from tabstep.system.atomic_write import file_digest, write_durably

AGAIN_SECONDS: Final = 60.0
"""A tracker that does not answer is left alone for so long: each try may wait for its time to run out."""
Row = Mapping[str, float]
Status = Literal["finished", "failed", "killed"]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a run has come to.

    Attributes:
        file: by whose digest it is known whether all of this has been logged.
        scores: of the exported epoch.
        artifacts: files and directories by the names that they get; some may not be there.
    """

    file: Path
    scores: Mapping[str, float]
    epoch: int
    artifacts: Mapping[str, Path]


class Tracker(ABC):
    """One run in one tracker, on rank 0 alone.

    Args:
        memory: directory that goes where the run goes on: a file there says which of the tracker's runs is its own.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self, memory: Path) -> None:
        self._memory = memory / f"{self.name}.json"
        self._parameters: Mapping[str, Any] = {}
        self._warned = False
        self._again_at = 0.0
        self._opened = False

    @property
    def key(self) -> str:
        """What a message about this tracker begins with."""
        return f"logger.{self.name}"

    @property
    def place(self) -> str:
        """Where the run is found, empty where the tracker says so itself or has none yet."""
        return ""

    def reach(self) -> None:
        """Find out early whether the tracker is there.

        Raises:
            UserError: its package is missing, or it refuses. RetryError: it does not answer.
        """
        if importlib.util.find_spec(self.package) is None:
            raise UserError(f"{self.key}: needs the package {self.package}: pip install 'tabstep[{self.name}]'")
        self._reach()

    def begin(self, parameters: Mapping[str, Any], results: Path) -> None:
        """Begin a run, or go on with the one that an earlier process began; one whose results are there stays as it is.

        Args:
            parameters: nested, free of secrets.
            results: the file whose digest tells whether what there is to keep has been kept.

        Raises:
            UserError: the tracker refuses. RetryError: it does not answer.
        """
        self._parameters = parameters
        kept = self.remembered().get("kept")
        if kept is not None and results.is_file() and file_digest(results) == kept:
            return
        try:
            self._make_open()
        except (UserError, RetryError):
            raise
        except Exception as error:  # a client raises what it likes
            raise unreachable(self.key, self.name, error) from error

    def add(self, history: Sequence[Row]) -> None:
        """Log the epochs that the tracker does not have yet; what it has missed while it was away is among them."""
        if time.monotonic() >= self._again_at:
            with self._unharmed():
                self._make_open()
                self._add(history)

    def log(self, metrics: Row, step: int) -> None:
        """Log what a callback says beside the epochs."""
        if time.monotonic() >= self._again_at:
            with self._unharmed():
                self._make_open()
                self._log(metrics, step)

    def keep(self, history: Sequence[Row], results: Results) -> None:
        """Log all of a run that has ended, unless it has been logged."""
        digest = file_digest(results.file)
        if self.remembered().get("kept") == digest:
            return
        with self._unharmed():
            self._make_open()
            self._add(history)
            self._keep(results)
            # last: what failed before it is logged by the next call
            self.remember(kept=digest)

    def end(self, status: Status) -> None:
        """Say how the run ended, where it was begun at all."""
        if self._opened:
            with self._unharmed():
                self._end(status)
            self._opened = False

    def remembered(self) -> dict[str, Any]:
        """Return what the file says, nothing where there is none."""
        try:
            found = json.loads(self._memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def remember(self, **facts: Any) -> None:
        """Add to what the file says."""
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._memory, json.dumps({**self.remembered(), **facts}, indent=1).encode())

    def _make_open(self) -> None:
        if not self._opened:
            self._open()
            self._opened = True

    @contextmanager
    def _unharmed(self) -> Iterator[None]:
        """Turn whatever goes wrong into one warning a run: a result is worth more than its record."""
        try:
            yield
            self._again_at = 0.0
        except Exception as error:  # noqa: BLE001 - a client raises what it likes, of any package below it
            self._again_at = time.monotonic() + AGAIN_SECONDS
            if not self._warned:
                self._warned = True
                what = shortened(error)
                warnings.warn(
                    f"{self.key}: {what}: the run goes on without it; what is missing there is sent when it answers "
                    "again, or by the same command after the end",
                    stacklevel=4,
                )

    @abstractmethod
    def _reach(self) -> None: ...

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _add(self, history: Sequence[Row]) -> None: ...

    @abstractmethod
    def _log(self, metrics: Row, step: int) -> None: ...

    @abstractmethod
    def _keep(self, results: Results) -> None: ...

    @abstractmethod
    def _end(self, status: Status) -> None: ...


def shortened(error: BaseException) -> str:
    r"""Return the first line of what a client says, in bounds: it may be a page of HTML.

    >>> shortened(ValueError("no such run\n<html>"))
    'no such run'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def no_answer(error: BaseException) -> bool:
    """Tell whether an error comes from a server that is not there, from what led to it."""
    return any(
        isinstance(each, ConnectionError | TimeoutError) or type(each).__name__ in _NO_ANSWER for each in led_to(error)
    )


_NO_ANSWER: Final = frozenset({"ConnectionError", "ConnectTimeout", "ReadTimeout", "EndpointConnectionError"})
"""Of requests, urllib3 and botocore, none of which this package needs."""


def unreachable(key: str, where: str, error: BaseException) -> Exception:
    """Return what to raise where a tracker cannot be used at the start."""
    if isinstance(error, UserError | RetryError):
        return error
    if no_answer(error):
        return RetryError(f"{key}: {where} does not answer: start it, or train without it: logger=csv")
    return UserError(f"{key}: {where}: {shortened(error)}")
