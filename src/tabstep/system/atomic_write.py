"""Atomic, durable file writes: after a crash a file is whole or as it was before."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from tabstep.errors import UserError
from tabstep.system.exits import write_failure

_NAME: Final = 40
"""Characters of a file's name that stand in its temporary one, which may not grow too long."""


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a new file beside ``path`` to fill, which takes its name at the end: what stands there is always whole.

    Writers of one path never share a file, so that each leaves its own and the last one's stays. A symbolic link in
    the place of ``path`` is replaced, not followed.

    Raises:
        UserError: ``path`` is a device, a pipe or a socket.
    """
    check_replaceable(path)
    with temporary_beside(path) as (temporary, descriptor):
        yield temporary
        # before it has its name: a crash after a rename alone could leave an empty file
        os.fsync(descriptor)
        os.replace(temporary, path)
    sync_directory(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write ``data`` so that after a crash ``path`` holds either all of it or what it held before."""
    with publishing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def temporary_beside(path: Path, *, directory: bool = False) -> Iterator[tuple[Path, int]]:
    """Yield an empty file or directory of a name of its own beside ``path``, and a descriptor of it.

    Beside, since a rename is atomic on one file system only. It is locked as long as it is in use and removed at the
    end where it still has its name; what killed processes have left of ``path`` is removed first.
    """
    for stale in path.parent.glob(f".{glob.escape(path.name[:_NAME])}.*.tmp"):
        _remove_unused(stale)
    temporary, descriptor = _create(path, directory=directory)
    try:
        yield temporary, descriptor
    finally:
        _remove(temporary)
        os.close(descriptor)


def _create(path: Path, *, directory: bool) -> tuple[Path, int]:
    while True:
        temporary = path.with_name(f".{path.name[:_NAME]}.{secrets.token_hex(8)}.tmp")
        if directory:
            temporary.mkdir()
            descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
        else:
            # as any new file, less the umask: the rename keeps the permissions
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        # Another writer that looks for what dead ones left may lock and remove it before it is locked here.
        if _lock(descriptor) != "held" and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> Literal["locked", "held", "impossible"]:
    """Lock an open file: another descriptor may hold the lock, and some file systems have none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "held"
    except OSError:
        return "impossible"
    return "locked"


def _remove_unused(stale: Path) -> None:
    with suppress(OSError):
        # at once, should somebody have put a pipe there that nobody writes to
        descriptor = os.open(stale, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _lock(descriptor) == "locked":
                _remove(stale)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def check_name(path: Path) -> None:
    """Raise ``UserError`` where a name is not UTF-8: Arrow opens no such file."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{str(path)!r} is not UTF-8, as a file's name must be: choose another one") from error


def check_replaceable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        inherited = path.is_symlink() and os.readlink(path).startswith("/proc/")  # /dev/stdout and the like
    except OSError:
        return
    if inherited or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path}: is a device, a pipe or a socket, which no file can replace: name a file")


def check_writable(directory: Path, what: str) -> None:
    """Make sure that files can be written in ``directory``, or where it would be made; it is not made here.

    Raises:
        RetryError: the disk is full.
        UserError: it is no directory, or cannot be written. Messages begin with ``what``.
    """
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"{what}: cannot be written: {str(place)!r} is a file: name another directory")
    probe = place / f".{secrets.token_hex(8)}.probe"
    try:
        # not an empty file, which a full disk still takes
        write_durably(probe, bytes(4096))
        probe.unlink()
    except OSError as error:
        # of the place: a person knows nothing of the probe
        raise write_failure(OSError(error.errno, error.strerror, str(place)), f"{what}: cannot be written") from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(directory: Path) -> None:
    """Make a rename inside ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
