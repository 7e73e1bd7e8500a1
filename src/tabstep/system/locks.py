"""A directory that one process at a time writes to."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tabstep.errors import UserError
from tabstep.system.exits import writing

LOCK: Final = ".lock"
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of some file systems


@contextmanager
def exclusive(directory: Path, key: str = "paths.output_dir") -> Iterator[None]:
    """Hold ``directory``, which ``key`` names, for one process; a killed one lets go of it.

    Raises:
        UserError: another process holds it, or it cannot be written.
        RetryError: the disk is full.
    """
    with writing(f"{key}: cannot be written"):
        directory.mkdir(parents=True, exist_ok=True)
        # no link is followed: what it leads to would be emptied
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        _take(descriptor, directory, key)
        with writing(f"{key}: cannot be written"):
            # the number is for a person who looks for the holder: the lock itself is the kernel's
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """Hold ``directory`` as soon as no other process does; at once where the file system has no locks."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def discard_unused(directory: Path, own: Collection[str], *, keep: bool = False) -> None:
    """Remove a directory in which nothing lies but what is ``own`` to its making, locks and empty directories.

    A directory that another process holds stays, as does one that cannot be removed. ``keep`` leaves the directory
    itself, which somebody else has made, and takes what is in it.
    """
    with suppress(OSError, UserError):
        if not all(entry.name in {*own, LOCK} or _is_empty(entry) for entry in directory.iterdir()):
            return
        check_free(directory)
        for path in list(directory.iterdir()) if keep else [directory]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_empty(path: Path) -> bool:
    """Tell whether no file but a lock lies anywhere below a directory."""
    return path.is_dir() and all(each.name == LOCK or _is_empty(each) for each in path.iterdir())


def check_free(directory: Path, key: str = "paths.output_dir") -> None:
    """Raise ``UserError`` where another process holds ``directory``; nothing is written, nor made."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # nobody has been there, or the run will say what is wrong
        return
    try:
        _take(descriptor, directory, key)
    finally:
        os.close(descriptor)


def _take(descriptor: int, directory: Path, key: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{key}: another run is writing to {directory}: choose another one") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
