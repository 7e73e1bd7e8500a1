"""A file is whole or as it was before, whoever else writes to it, whatever lies in its place, whatever is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tabstep.errors import UserError
from tabstep.system.atomic_write import check_writable, publishing, temporary_beside, write_durably


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    contents = [bytes([number]) * 300_000 for number in range(8)]
    start = threading.Barrier(len(contents))

    def write(data: bytes) -> None:
        start.wait()
        for _ in range(5):
            with publishing(path) as temporary, open(temporary, "wb") as file:
                for offset in range(0, len(data), 100_000):
                    file.write(data[offset : offset + 100_000])

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["out"]


def test_a_file_that_another_writer_takes_for_a_dead_ones_before_it_is_locked_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    lock = fcntl.flock

    def look_first(descriptor: int, operation: int) -> None:
        if not looked:  # the other's descriptor holds the lock, and its unlink is still to come
            other = os.open(next(tmp_path.glob(".out.*.tmp")), os.O_RDONLY)
            looked.append(other)
            lock(other, fcntl.LOCK_EX)
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", look_first)
    with temporary_beside(tmp_path / "out") as (temporary, _):
        assert not os.path.samestat(os.fstat(looked[0]), temporary.stat())
    os.close(looked[0])


@pytest.mark.parametrize("name", [".out.tmp", ".out.0123456789abcdef.tmp"])
def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(name: str, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / name).symlink_to(tmp_path / "victim")
    write_durably(tmp_path / "out", b"new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "out").read_bytes() == b"new"
    assert not (tmp_path / "out").is_symlink()


def test_a_link_in_the_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    write_durably(tmp_path / "out", b"new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "out").is_symlink()


@pytest.mark.parametrize("place", ["/dev/null", "/dev/stdout", "pipe", "link to a pipe"])
def test_what_is_no_file_is_never_replaced(place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to(tmp_path / "pipe")
    path = tmp_path / place  # an absolute one stays itself
    before = path.lstat()
    with pytest.raises(UserError, match=r"is a device, a pipe or a socket, which no file can replace: name a file$"):
        write_durably(path, b"x")
    assert stat.S_IFMT(path.lstat().st_mode) == stat.S_IFMT(before.st_mode)
    assert path.lstat().st_ino == before.st_ino
    assert names(tmp_path) == ["link to a pipe", "pipe"]


def test_an_error_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_durably(tmp_path / "out", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="full"):
        write_durably(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from tabstep.system.atomic_write import temporary_beside
        with temporary_beside(Path(sys.argv[1])), temporary_beside(Path(sys.argv[2]), directory=True) as (folder, _):
            (folder / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "out"), str(tmp_path / "folder")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    with temporary_beside(tmp_path / "out") as (alive, _):
        write_durably(tmp_path / "out", b"new")
        assert alive.is_file()
        with temporary_beside(tmp_path / "folder", directory=True) as (folder, _):
            assert names(tmp_path) == sorted([alive.name, folder.name, "out"])
    assert names(tmp_path) == ["out"]


def test_a_long_name_and_one_of_a_pattern_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127, "a[0-9]*"):
        write_durably(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"
    check_writable(tmp_path, "place")
    assert len(names(tmp_path)) == 3


def test_permissions_are_those_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_durably(tmp_path / "out", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
