"""How commands end: exit codes, signals and what the file system refuses."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from omegaconf import OmegaConf

from tabstep.errors import RetryError, UserError
from tabstep.system.exits import check_stopped, exit_code, of_the_machine, of_the_storage, reading, writing


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


def test_a_stop_that_a_library_swallows_is_found_later(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        check_stopped()

    assert exit_code(command) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM: what was saved stays, and the same command goes on\n"
    assert exit_code(check_stopped) == 0  # it was the other command's


@pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc of size 9 failed")])
def test_a_full_memory_may_be_tried_again(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    assert exit_code(command) == 75
    assert re.fullmatch(r"the memory is full \(.+\): free some, lower data\.batch_size .*\n", capsys.readouterr().err)


def test_no_room_for_a_thread_is_a_full_memory(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise RuntimeError("can't start new thread")

    assert exit_code(command) == 75
    assert len(capsys.readouterr().err.splitlines()) == 1


ENDINGS = {
    "nothing": ("print('x')", "", 0),
    "closed output": ("print('x')", ">&-", 0),
    "closed input": ("print('x')", "<&-", 0),
    "all closed": ("print('x')", "<&- >&- 2>&-", 0),
    "a mistake, all closed": ("raise UserError('a')", "<&- >&- 2>&-", 2),
    "a mistake, a full place": ("raise UserError('a')", "2>/dev/full", 2),
    "an output that is full": ("print('x')", ">/dev/full", 75),
    "a reader that has gone": ("[Terminal(file=sys.stdout).print('x' * 9999) for _ in range(99)]", "| head -c 1", 141),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_end_in_a_shell(name: str, tmp_path: Path) -> None:
    body, redirection, code = ENDINGS[name]
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from tabstep.errors import UserError\n"
        "from tabstep.system.exits import exit_code\n"
        "from tabstep.system.terminal import Terminal\n"
        f"def command():\n    {body}\n"
        "code = exit_code(command)\n"
        "for number in (0, 1, 2):\n    assert open('taken', 'w').fileno() > 2\n"
        "sys.exit(code)\n"
    )
    command = f"{sys.executable} program.py {redirection}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
