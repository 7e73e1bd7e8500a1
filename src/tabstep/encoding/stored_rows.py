"""Rows of encoded arrays that stay in their files: read when they are needed, and not kept by the page cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from tabstep.errors import RetryError, UserError

_PAGE: Final = 4096
_NEAR: Final = 2**20
"""Bytes of a file within which rows are read together, with those between them."""


class RowArrays(NamedTuple):
    """Some rows: ``x_num`` (n, numbers), ``x_cat`` (n, categories), ``y`` (n,) or (n, labels), ``weight`` (n,)."""

    x_num: np.ndarray
    x_cat: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None

    @property
    def present(self) -> tuple[np.ndarray, ...]:
        """The arrays that there are."""
        return tuple(array for array in self if array is not None)

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> RowArrays:
        """Return the rows with changed arrays."""
        return RowArrays(*map(change, self.present))


def read_rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the rows ``start`` to ``stop`` of an array that is mapped from the start of a file, read from there.

    Raises:
        UserError: the file has become shorter.
        RetryError: the disk fails.
    """
    rows = np.empty((stop - start, *array.shape[1:]), dtype=array.dtype)
    if rows.nbytes:
        with _opened(array) as file:
            _read(file, start * _row_bytes(array), rows)
    return rows


def take_rows(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the rows at ``places``, which ascend; raises what ``read_rows`` does."""
    near = places * _row_bytes(array) // _NEAR
    edges = [0, *np.flatnonzero(np.diff(near)) + 1, len(places)] if len(places) else [0]
    rows = [np.empty((0, *array.shape[1:]), dtype=array.dtype)]
    for first, last in pairwise(edges):
        start = int(places[first])
        rows.append(read_rows(array, start, int(places[last - 1]) + 1)[places[first:last] - start])
    return np.concatenate(rows)


def forget_pages(descriptor: int, start: int, size: int) -> None:
    """Let the page cache drop a range of a file, with the pages at its edges."""
    if hasattr(os, "posix_fadvise"):  # macOS has none
        first = start // _PAGE * _PAGE
        os.posix_fadvise(descriptor, first, -(-(start + size) // _PAGE) * _PAGE - first, os.POSIX_FADV_DONTNEED)


def _row_bytes(array: np.ndarray) -> int:
    return array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))


@contextmanager
def _opened(array: np.ndarray) -> Iterator[FileIO]:
    assert isinstance(array, np.memmap), "rows are read from the file that an array is mapped from"
    path = Path(str(array.filename))
    try:
        with FileIO(path) as file:
            if hasattr(os, "posix_fadvise"):  # what is read ahead unasked would stay behind
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            yield file
    except OSError as error:
        raise RetryError(f"paths.cache_dir: cannot read {path}: {error.strerror or error}") from error


def _read(file: FileIO, start: int, rows: np.ndarray) -> None:
    view = memoryview(rows.data).cast("B")
    file.seek(start)
    while view:
        count = file.readinto(view)
        if not count:
            raise UserError(f"paths.cache_dir: {file.name} has become shorter: run again, and it is encoded anew")
        view = view[count:]
    forget_pages(file.fileno(), start, rows.nbytes)
