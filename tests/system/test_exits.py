"""How commands end: exit codes, signals and what the file system refuses."""

from __future__ import annotations

import errno
import os
import signal
import threading

import pytest
from omegaconf import OmegaConf

from tabstep.errors import RetryError, UserError
from tabstep.system.exits import exit_code, of_the_machine, of_the_storage, reading, writing


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


def test_a_stop_within_a_library_that_raises_anew_is_a_stop(capsys: pytest.CaptureFixture[str]) -> None:
    def resolver() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def command() -> None:
        OmegaConf.register_new_resolver("stop_here", resolver, replace=True)
        OmegaConf.create({"key": "${stop_here:}"}).key  # noqa: B018

    def wrapped() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as error:
            raise UserError("loss: its constructor failed") from error

    for each in (command, wrapped):
        assert exit_code(each) == 128 + signal.SIGTERM
        (line,) = capsys.readouterr().err.splitlines()
        assert line == "stopped by SIGTERM: what was saved stays, and the same command goes on"


def test_an_error_that_is_its_own_cause_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        error = UserError("logger.wandb: no key")
        raise error from error

    assert exit_code(command) == 2
    assert capsys.readouterr().err == "logger.wandb: no key\n"


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


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        ("NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server", True),
        ("INTERNAL_FAILURE during GetObject operation: Failed to flush response stream (eof: 0, bad: 1)", True),
        ("SLOW_DOWN during ListObjectsV2 operation: m", True),
        ("REQUEST_TIMEOUT during ListObjectsV2 operation: m", True),
        ("UNKNOWN (HTTP status 503) during HeadObject operation: No response body.", True),
        ("UNKNOWN (HTTP status 429) during HeadObject operation: No response body.", True),
        ("UNKNOWN (HTTP status 403) during ListObjectsV2 operation: Unable to parse ExceptionName: ExpiredToken", True),
        ("UNKNOWN (HTTP status 400) during HeadObject operation: No response body.", False),
        ("ACCESS_DENIED during HeadObject operation: No response body.", False),
        ("NO_SUCH_KEY during ListObjectsV2 operation: m", False),
    ],
)
def test_what_s3_answers(answer: str, again: bool) -> None:
    """Arrow gives these errors no number; each text is one that it was seen to give."""
    error = OSError(f"When reading information for key 'x' in bucket 'b': AWS Error {answer}")
    assert (of_the_storage(error), of_the_machine(error)) == (True, again)


def test_damaged_data_are_not_the_storages() -> None:
    error = OSError("Couldn't deserialize thrift: TProtocolException: Invalid data")
    assert not of_the_storage(error)
    assert not of_the_machine(error)


def test_a_storage_that_fails_anywhere_may_be_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "a/b")

    assert exit_code(command) == 75
    line = "the storage or the machine failed: Stale file handle: 'a/b': run again when the storage is back\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("number", "expected", "text"),
    [
        (errno.EIO, RetryError, "x: cannot be read: Input/output error: run again when the storage is back"),
        (errno.EACCES, UserError, "x: cannot be read: Permission denied: let this user read it"),
    ],
)
def test_what_cannot_be_read(number: int, expected: type[Exception], text: str) -> None:
    with pytest.raises(expected) as raised, reading("x"):
        raise OSError(number, os.strerror(number), "a")
    assert str(raised.value) == text
