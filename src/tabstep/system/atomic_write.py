"""Atomic, durable file writes: after a crash a file is whole or as it was before."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tabstep.errors import UserError
from tabstep.system.exits import write_failure


def write_durably(path: Path, data: bytes) -> None:
    """Write ``data`` so that after a crash ``path`` holds either all of it or what it held before.

    The temporary file lies beside its target: a rename is atomic on one file system only.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def check_writable(directory: Path, what: str) -> None:
    """Make sure that files can be written in ``directory``, or where it would be made; it is not made here.

    Raises:
        RetryError: the disk is full.
        UserError: it is no directory, or cannot be written. Messages begin with ``what``.
    """
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"{what}: cannot be written: {str(place)!r} is a file: name another directory")
    probe = place / f".{os.getpid()}.probe"
    try:
        write_durably(probe, bytes(4096))
        probe.unlink()
    except OSError as error:
        raise write_failure(OSError(error.errno, error.strerror, str(place)), f"{what}: cannot be written") from error


def sync_directory(directory: Path) -> None:
    """Make a rename inside ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
