"""How commands end: exit codes, signals and what the file system refuses."""

from __future__ import annotations

import errno
import os
import signal
import threading

import pytest

from tabstep.errors import RetryError, UserError
from tabstep.system.exits import exit_code, writing


def test_sigterm_ends_a_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert exit_code(command) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM: what was saved stays, and the same command goes on\n"
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_has_no_signals() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(exit_code(lambda: None)))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize(
    ("number", "expected", "text"),
    [
        (errno.ENOSPC, RetryError, "x: No space left on device: 'b': free some space, then the same command goes on"),
        (errno.EROFS, UserError, "x: Read-only file system: 'b'"),
    ],
)
def test_what_the_file_system_refuses(number: int, expected: type[Exception], text: str) -> None:
    with pytest.raises(expected) as raised, writing("x"):
        raise OSError(number, os.strerror(number), "a", None, "b")
    assert str(raised.value) == text


def test_other_errors_of_the_system_are_not_about_writing() -> None:
    with pytest.raises(OSError, match=r"^lost$"), writing("x"):
        raise OSError("lost")
    with pytest.raises(BrokenPipeError), writing("x"):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
