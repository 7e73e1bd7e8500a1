"""Writes and reads checkpoint files, so that they survive a kill, a full disk and a flipped bit.

A file is the magic number, the SHA-256 of what follows, and ``torch.save`` of tensors and plain containers. Its name
ends in the optimizer step: ``last-00000120.ckpt`` is the state to go on from, ``best-00000100.ckpt`` the state that
scored best. Files are never changed once they have their name.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from tabstep.errors import RetryError, UserError
from tabstep.system.atomic_write import sync_directory, write_durably
from tabstep.system.exits import FULL_DISK

MAGIC = b"tabstep\x01"
_DIGEST_BYTES = hashlib.sha256().digest_size
_NAME = re.compile(r"(last|best)-(\d{8,})\.ckpt")
_MAX_FAILURES = 3


class DamagedError(UserError):
    """A checkpoint file whose bytes are not those that were written."""


def dump_state(state: dict[str, Any]) -> bytes:
    """Serialize tensors and plain containers together with their digest."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    return MAGIC + hashlib.sha256(payload).digest() + payload


def load_state(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read what ``dump_state`` wrote.

    Raises:
        DamagedError: the file is truncated, its digest does not fit, or it is no checkpoint of this program.
    """
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        raise UserError("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set: a checkpoint could run code; unset it")
    data = path.read_bytes()
    head = len(MAGIC) + _DIGEST_BYTES
    if not data.startswith(MAGIC):
        raise DamagedError(f"{path}: is not a checkpoint of tabstep")
    if hashlib.sha256(data[head:]).digest() != data[len(MAGIC) : head]:
        raise DamagedError(f"{path}: is damaged: its digest does not fit its {len(data):,} bytes")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data[head:]), map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:  # the digest fits, so somebody has made it
        raise DamagedError(f"{path}: is not a checkpoint of tabstep: it holds more than tensors and values") from error
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: is not a checkpoint of tabstep: torch cannot read it") from error
    if not isinstance(state, dict):
        raise DamagedError(f"{path}: is not a checkpoint of tabstep: it holds no state")
    return state


class CheckpointStore(CheckpointIO):
    """The ``checkpoints/`` directory of a run; also the Trainer's plugin that reads and writes its files.

    Args:
        directory: created on the first write.
        keep: how many of the newest files of each kind stay.
    """

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self.directory = directory
        self._keep = keep
        self._failures = 0

    def path(self, kind: str, step: int) -> Path:
        """Name the file of ``kind`` (``last`` or ``best``) at an optimizer step."""
        return self.directory / f"{kind}-{step:08d}.ckpt"

    def files(self, kind: str) -> list[Path]:
        """List the files of ``kind``, newest first."""
        return [self.path(kind, step) for step in self.steps(kind)]

    def steps(self, kind: str) -> list[int]:
        """List the optimizer steps that have a file of ``kind``, newest first."""
        found = (_NAME.fullmatch(path.name) for path in self.directory.glob(f"{kind}-*.ckpt"))
        return sorted((int(match[2]) for match in found if match), reverse=True)

    def newest(self, check: Callable[[Path, dict[str, Any]], None] | None = None) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest intact file ``last`` with its state; a damaged one is passed over with a warning.

        ``check`` raises ``DamagedError`` for a state that is none of a run.
        """
        for path in self.files("last"):
            try:
                state = load_state(path)
                if check is not None:
                    check(path, state)
                return path, state
            except DamagedError as error:
                warnings.warn(f"{error}; trying the one before it", stacklevel=2)
        return None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write one file durably; a full disk costs this file, not the run, until it has happened three times in a row.

        Raises:
            RetryError: the disk was full three times in a row.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_durably(target, dump_state(checkpoint))
        except OSError as error:
            self._count_failure(target, error)
        else:
            self._failures = 0

    def _count_failure(self, target: Path, error: OSError) -> None:
        if error.errno not in FULL_DISK:
            raise RetryError(f"{target}: cannot be written: {error.strerror}") from error
        self._failures += 1
        if self._failures >= _MAX_FAILURES:
            raise RetryError(
                f"{target}: the disk is full ({self._failures} tries): free some space, run again"
            ) from error
        warnings.warn(f"{target}: the disk is full; the checkpoint before it stays, the next try follows", stacklevel=2)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one file; ``weights_only`` is always in force."""
        return load_state(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete one file."""
        Path(path).unlink(missing_ok=True)

    def mark_best(self, step: int) -> None:
        """Give the file ``last`` of ``step`` a second name that outlives it."""
        source, target = self.path("last", step), self.path("best", step)
        if not source.exists() or target.exists():
            return
        try:
            os.link(source, target)
            sync_directory(self.directory)
        except OSError:  # a file system without hard links
            write_durably(target, source.read_bytes())

    def adopt_best(self, directory: Path, step: int) -> None:
        """Copy the best epoch's state from another run's checkpoints, where a run goes on that came from there."""
        target = self.path("best", step)
        if target.exists() or directory.resolve() == self.directory.resolve():
            return
        other = CheckpointStore(directory)
        for source in (other.path(kind, step) for kind in ("best", "last")):
            if source.exists():
                self.directory.mkdir(parents=True, exist_ok=True)
                write_durably(target, source.read_bytes())
                return

    def prune(self) -> None:
        """Delete all but the newest files of each kind."""
        for kind in ("last", "best"):
            for path in self.files(kind)[self._keep :]:
                self.remove_checkpoint(path)

    def clean(self) -> None:
        """Delete what a killed process left half written."""
        for path in self.directory.glob(".*.tmp"):
            path.unlink(missing_ok=True)
