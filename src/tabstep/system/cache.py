"""A cache of files on disk: an entry is complete or absent, and built by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from tabstep.errors import RetryError, UserError
from tabstep.system.exits import of_the_machine

T = TypeVar("T")

DAMAGE: Final = (OSError, ValueError, KeyError, TypeError)
"""What a ``load`` raises where an entry is absent or damaged."""
_TEXT: Final = "text"


def publish(directory: Path, *, build: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """Return ``load(directory)``; where that fails, ``build`` a new one first, under a lock.

    ``build`` fills an empty directory beside, which is then renamed: a process killed in between leaves nothing under
    the final name. ``load`` raises OSError, ValueError, KeyError or TypeError when the directory is absent or damaged.

    Raises:
        RetryError: the disk is full.
        UserError: the place cannot be written.
    """
    try:
        return load(directory)
    except DAMAGE:
        pass
    with _writing(directory.parent), _lock(directory):
        try:
            return load(directory)  # another process was faster
        except DAMAGE:
            _replace(directory, build)
        return load(directory)


def cached_text(cache_dir: Path, key: str, make: Callable[[], str]) -> str:
    """Return what ``make`` returns, kept in a file for the next call with the same key."""
    return publish(
        cache_dir / key,
        build=lambda directory: write_sealed(directory / _TEXT, f"{key}\n{make()}"),
        load=lambda directory: _text_of(directory, key),
    )


def kept_text(cache_dir: Path, key: str) -> str | None:
    """Return what ``cached_text`` has kept, or None."""
    try:
        return _text_of(cache_dir / key, key)
    except DAMAGE:
        return None


def _text_of(directory: Path, key: str) -> str:
    found, _, text = read_sealed(directory / _TEXT).partition("\n")
    if found != key:  # it was copied here, from another entry or by another version
        raise ValueError(f"{directory.name}: is that of {found!r}")
    return text


def cached_json(cache_dir: Path, key: str, make: Callable[[], Any]) -> Any:
    """Return the plain containers that ``make`` returns, kept in a file for the next call with the same key."""
    return json.loads(cached_text(cache_dir, key, lambda: json.dumps(make())))


def write_sealed(path: Path, text: str) -> None:
    """Write ``text`` below a line with its digest."""
    path.write_bytes(sealed(text))


def sealed(text: str) -> bytes:
    """Return ``text`` below a line with its digest, as ``read_sealed`` takes it from a file."""
    return f"{_digest(text)}\n{text}".encode()


def read_sealed(path: Path) -> str:
    """Return what ``write_sealed`` wrote; ``ValueError`` where a bit of it has changed, or it is no file any more."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name}: is no file")  # nobody may ever write to a pipe
    digest, _, text = path.read_bytes().decode().partition("\n")
    if digest != _digest(text):
        raise ValueError(f"{path.name}: the digest differs")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _replace(directory: Path, build: Callable[[Path], None]) -> None:
    """Build beside ``directory`` and take its place."""
    fresh = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}.building")
    fresh.mkdir()
    try:
        build(fresh)
        # on the disk before it has its name, so that what a crash leaves under a name is whole
        for path in (*fresh.rglob("*"), fresh):
            _sync(path)
        if directory.exists():
            # out of the way, for a rename takes the place of an empty directory at most
            directory.rename(fresh.with_suffix(".damaged"))
        try:
            fresh.rename(directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # built by another one, without a lock
                raise
        _sync(directory.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(fresh.with_suffix(".damaged"), ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Let one process at a time build ``directory``; the kernel frees the lock of a process that dies."""
    # this file stays: were it removed, two processes could hold locks of one name
    with open(directory.parent / f".{directory.name}.lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            yield  # a file system without locks: two may build, and the rename decides
            return
        for pattern in (f".{directory.name}.*.building", f".{directory.name}.*.damaged"):
            for stale in directory.parent.glob(pattern):  # of a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
        yield


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        message = f"paths.cache_dir: cannot write {str(directory)!r}: {error.strerror or error}"
        if of_the_machine(error):
            raise RetryError(f"{message}: free some space or set paths.cache_dir to another disk") from error
        raise UserError(f"{message}: set paths.cache_dir to a directory that can be written") from error
