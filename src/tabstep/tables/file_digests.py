"""What the files of a split hold, as a digest of each file's bytes: caches and checkpoints are bound to it.

Names, sizes, times and footers may all be equal where the rows are not (``cp -p``, ``rsync -t``, the layers of an
image), so every byte is read once. The digests are remembered beside what the file system says of the files, so that
the next start reads none of them: device, inode, size and times, of which a write cannot set the last one back. An
object of a store has its size and its time, which the service sets.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from typing import Final

import pyarrow as pa

from tabstep.errors import UserError
from tabstep.system.cache import cached_json
from tabstep.tables.locations import FileState, Location, read_error

Span = tuple[int, int]
"""The first byte, and the one behind the last."""

_CHUNK: Final = 2**22
_THREADS: Final = 4
_SETTLED_NS: Final = 2 * 10**9
"""A file that was changed so short a time ago may change again within the same tick of the file system's clock."""


class Contents:
    """The digests of the files of one split, read at most once.

    Args:
        states: what the file system said of each path before anything was read of it.
        where: how messages name the split.
        memory: the directory that keeps the digests for the next start; None keeps nothing.
        spans: the bytes of a path that count, where those of its other row groups are left to another shard.
    """

    def __init__(
        self,
        location: Location,
        states: Mapping[str, FileState],
        *,
        where: str,
        memory: Path | None,
        spans: Mapping[str, Span] | None = None,
    ) -> None:
        self._location = location
        self._spans = dict(spans or {})
        self._states = states
        self._where = where
        self._memory = memory

    def joined(self, other: Contents, location: Location) -> Contents:
        """Return those of the files of both; ``location`` has all of them."""
        states = {**self._states, **other._states}
        return Contents(location, states, where=self._where, memory=self._memory)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each file, or of the bytes of it that count, in hex.

        Raises:
            UserError: a file has changed since it was opened, or the memory cannot be written.
            RetryError: the storage failed.
        """
        youngest = max((state.changed_ns for state in self._states.values()), default=0)
        # what may still change unseen is read each time
        if self._memory is None or time.time_ns() - youngest < _SETTLED_NS:
            return tuple(self._read())
        facts = [(path, *astuple(state), *self._spans.get(path, ())) for path, state in self._states.items()]
        key = "contents-" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        return tuple(cached_json(self._memory, key, self._read))

    def _read(self) -> list[str]:
        # hashing lets go of the interpreter
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            return list(pool.map(self._digest, self._states))

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        try:
            for chunk in self._chunks(path):
                digest.update(chunk)
            self.check_unchanged(path)
        except (pa.ArrowException, OSError) as error:
            raise read_error(self._where, self._location.name(path), error) from error
        return digest.hexdigest()

    def _chunks(self, path: str) -> Iterator[bytes]:
        if path not in self._spans:
            with self._location.filesystem.open_input_stream(path) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
            return
        start, stop = self._spans[path]
        with self._location.filesystem.open_input_file(path) as file:
            while start < stop:
                chunk = file.read_at(min(_CHUNK, stop - start), start)
                # shorter than it was, which ``check_unchanged`` says
                if not chunk:
                    return
                start += len(chunk)
                yield chunk

    def check_unchanged(self, path: str) -> None:
        """Raise ``UserError`` where a file is not the one that was opened."""
        if not self._location.state(path).same_file(self._states[path]):
            name = self._location.name(path)
            raise UserError(f"{self._where}: {name}: changed while it was read: run again when it is complete")
