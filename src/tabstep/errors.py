"""What a person is told when something is wrong, and the process exit codes that go with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

EXIT_OK: Final = 0
EXIT_INTERNAL: Final = 1
EXIT_USER: Final = 2
EXIT_RETRY: Final = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed later
EXIT_SIGINT: Final = 130
EXIT_SIGTERM: Final = 143


@contextmanager
def collecting(problems: list[str]) -> Iterator[None]:
    """Add a mistake to ``problems`` instead of raising it, so that a person is told of all at once.

    >>> problems: list[str] = []
    >>> with collecting(problems):
    ...     raise UserError("a: is missing")
    >>> problems
    ['a: is missing']
    """
    try:
        yield
    except UserError as error:
        problems += str(error).splitlines()


def raise_problems(problems: Iterable[str]) -> None:
    """Raise a ``ProblemsError`` of what is wrong, each line once; return where nothing is."""
    if lines := list(dict.fromkeys(problems)):
        raise ProblemsError(lines)


class UserError(ValueError):
    """A mistake in the input or the configuration: one line that names the cause and the remedy.

    >>> str(UserError("data.train: no such file: a.parquet"))
    'data.train: no such file: a.parquet'
    """

    exit_code = EXIT_USER


class ProblemsError(UserError):
    """Several mistakes found in one pass, one line each.

    >>> print(ProblemsError(["a: is missing", "b: must be > 0, got -1"]))
    a: is missing
    b: must be > 0, got -1
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[ProblemsError], tuple[Sequence[str]]]:
        """Cross the border of a process whole: joblib, submitit and Ray bring it back pickled."""
        return ProblemsError, (self.problems,)


class RetryError(RuntimeError):
    """The machine is at fault, not the input (a full disk, a lost mount): the same command may succeed later."""

    exit_code = EXIT_RETRY


class StoppedError(RuntimeError):
    """A signal ended the run after its state was saved: the same command goes on from there."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum  # as a shell reports a process that died of the signal

    def __reduce__(self) -> tuple[type[StoppedError], tuple[str, int]]:
        """Cross the border of a process whole."""
        return StoppedError, (str(self), self.exit_code - 128)


def led_to(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on, each once: an error may be its own cause.

    Of our own errors it is the cause alone: what was being handled meanwhile is not what they are about.

    >>> [type(each).__name__ for each in led_to(UserError("no"))]
    ['UserError']
    """
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        ours = isinstance(following, UserError | RetryError)
        following = following.__cause__ if ours else following.__cause__ or following.__context__


def nearest(name: str, choices: Iterable[str], *, limit: int = 12) -> str:
    """Return the part of an error that helps with a mistyped name: the nearest one, else the choices.

    >>> nearest("adamv", ["adamw", "sgd"])
    "did you mean 'adamw'?"
    >>> nearest("xyz", ["adamw", "sgd"])
    'choose from: adamw, sgd'
    """
    known = list(dict.fromkeys(choices))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f", … ({len(known)} in all)" if len(known) > limit else ""
    return f"choose from: {', '.join(known[:limit])}{more}" if known else "there is none to choose from"
