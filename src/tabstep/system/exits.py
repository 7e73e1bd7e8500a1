"""Exit codes and error lines: what each exception becomes on stderr and for the caller of the process."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from tabstep.errors import EXIT_INTERNAL, EXIT_OK, EXIT_RETRY, EXIT_SIGINT, RetryError, StoppedError, UserError, led_to

FULL_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A write has no room, or may not take more."""
OUR_OWN: Final = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ETXTBSY, errno.EXDEV, errno.ENOTSUP, errno.EILSEQ),
    }
)
"""What a person has to change: a place or its permissions. Any other error number is the machine's (EIO, ESTALE, …)."""
_S3: Final = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during")
_S3_AGAIN: Final = frozenset(
    {
        *("NETWORK_CONNECTION", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "THROTTLING"),
        *("REQUEST_TIMEOUT", "REQUEST_EXPIRED", "REQUEST_TIME_TOO_SKEWED"),
    }
)
_NO_MEMORY: Final = re.compile(r"can't start new thread|can't allocate memory|out of memory|not enough memory", re.I)
_stopped: Final[list[int]] = []
"""SIGTERM, where it has come to the command of this process."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def exit_code(command: Callable[[], None]) -> int:
    """Run a command and return its exit code; say on stderr what went wrong.

    A ``UserError`` or ``RetryError`` is its message alone; with TABSTEP_TRACEBACK=1 its traceback comes first.
    """
    _open_standard_files()
    try:
        with _ended_by_sigterm():
            command()
            sys.stdout.flush()  # here, where it is known what a failure means
    except (UserError, RetryError, StoppedError) as error:
        return _ended_by(_stop_behind(error) or error)
    except KeyboardInterrupt:
        say("interrupted")
        return EXIT_SIGINT
    except Exception as error:  # noqa: BLE001 the outermost frame: nothing is hidden
        if (stop := _stop_behind(error)) is not None:
            return _ended_by(stop)
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 128 + signal.SIGPIPE
        if isinstance(error, OSError) and of_the_machine(error):  # of any file, at any time
            return _ended_by_storage(error)
        if out_of_memory(error):
            return _ended_by(_no_memory(error))
        traceback.print_exc()
        say(f"this is a fault of tabstep, not of your input: {type(error).__name__}: {error}")
        return EXIT_INTERNAL
    return EXIT_OK


def _ended_by(error: UserError | RetryError | StoppedError) -> int:
    if os.environ.get("TABSTEP_TRACEBACK") == "1":
        traceback.print_exception(error)
    say(str(error))
    return error.exit_code


def _stop_behind(error: BaseException) -> StoppedError | None:
    """Return the stop that an error was made of: a signal meets libraries, as OmegaConf, that raise their own anew."""
    return next((each for each in led_to(error) if isinstance(each, StoppedError)), None)


def _ended_by_storage(error: OSError) -> int:
    """Say which file the storage failed at, where that is known, and return that the command may be tried again."""
    if os.environ.get("TABSTEP_TRACEBACK") == "1":
        traceback.print_exception(error)
    say(str(write_failure(error, "the storage or the machine failed")))
    return EXIT_RETRY


def _no_memory(error: Exception) -> RetryError:
    return RetryError(
        f"the memory is full ({' '.join(str(error).split())[:200] or type(error).__name__}): free some, lower "
        "data.batch_size or take a larger machine; what was saved stays, and the same command goes on"
    )


def out_of_memory(error: BaseException) -> bool:
    """Tell whether there was no memory, or no room for one thread more; torch says so in its text alone.

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("can't start new thread"))
    (True, True)
    """
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def _open_standard_files() -> None:
    """Let a standard file that a shell closed lead nowhere: the next file to be opened would take its number.

    What a library prints would then stand in a checkpoint.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _nobody_reads() -> bool:
    """Tell whether the reader of standard output has ended, as ``| head`` does; Python then writes to it no more."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # Python flushes once more when it ends, and would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as an error does, so that what is half written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    _stopped.clear()

    def stop(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)  # the second one acts at once
        _stopped.append(signum)
        check_stopped()

    before: Any = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_stopped() -> None:
    """Raise ``StoppedError`` where SIGTERM has come: a library may have swallowed the error of that moment."""
    for signum in _stopped:
        raise StoppedError("stopped by SIGTERM: what was saved stays, and the same command goes on", signum)


def say(message: str) -> None:
    """Print to stderr, without what a hostile column or file name could make a terminal do.

    Where nothing can be written there, the exit code alone says what was wrong.
    """
    with suppress(OSError):
        print(_CONTROL.sub("�", message), file=sys.stderr, flush=True)


def write_failure(error: OSError, what: str) -> Exception:
    """Return what a failed write means: what the machine failed at may be tried again, a read-only place may not."""
    place = error.filename2 or error.filename  # of a copy, the copy
    text = f"{what}: {error.strerror or error}" + (f": {str(place)!r}" if place else "")
    if error.errno in FULL_DISK:
        return RetryError(f"{text}: free some space, then the same command goes on")
    if of_the_machine(error):
        return RetryError(f"{text}: run again when the storage is back")
    return UserError(text)


def of_the_storage(error: BaseException) -> bool:
    """Tell whether a file could not be had; data that are damaged are an OSError of Arrow too, but have no number."""
    return isinstance(error, OSError) and (error.errno is not None or _S3.search(str(error)) is not None)


def of_the_machine(error: BaseException) -> bool:
    """Tell whether the machine or its storage failed, and not a person who may change a place or its permissions.

    Arrow's errors of S3 have no number, and name what S3 answered in their text alone.
    """
    if not isinstance(error, OSError):
        return False
    if error.errno is not None:
        return error.errno not in OUR_OWN
    answer = _S3.search(str(error))
    if answer is None:
        return False
    name, status = answer[1], int(answer[2] or 0)
    return name in _S3_AGAIN or status in (408, 429) or status >= 500 or "ExpiredToken" in str(error)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn what the file system refuses into one line that begins with ``what``.

    Raises:
        RetryError: the disk is full.
        UserError: the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):  # not the file system's
            raise
        raise write_failure(error, what) from error


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn a file that the file system does not give into one line that begins with ``what``.

    Raises:
        RetryError: the storage failed.
        UserError: this user may not read it.
    """
    try:
        yield
    except OSError as error:
        if not of_the_storage(error):
            raise
        cause = f"{what}: cannot be read: {error.strerror or error}"
        if of_the_machine(error):
            raise RetryError(f"{cause}: run again when the storage is back") from error
        raise UserError(f"{cause}: let this user read it") from error
