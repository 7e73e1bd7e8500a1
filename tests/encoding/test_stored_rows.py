from __future__ import annotations

import errno
import os
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.encoding.stored_table import stored_table

from tabstep.encoding import stored_rows
from tabstep.encoding.stored_rows import read_rows, take_rows
from tabstep.errors import RetryError, UserError


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return stored_table(tmp_path_factory.mktemp("table"), 5_000, num_numeric=3).x_num


@given(start=st.integers(0, 5_000), rows=st.integers(0, 5_000))
def test_rows_that_are_read_are_those_that_are_mapped(array: np.ndarray, start: int, rows: int) -> None:
    stop = min(start + rows, len(array))
    read = read_rows(array, start, stop)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array[start:stop])


@given(places=st.lists(st.integers(0, 4_999), unique=True), near=st.integers(12, 10_000))
def test_rows_that_are_taken_are_those_that_are_mapped(array: np.ndarray, places: list[int], near: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_rows, "_NEAR", near)
        ordered = np.array(sorted(places), dtype=np.int64)
        np.testing.assert_array_equal(take_rows(array, ordered), array[ordered])


def test_an_array_of_no_columns_has_no_file_and_as_many_rows() -> None:
    nothing = np.empty((10, 0), dtype=np.float32)
    assert read_rows(nothing, 2, 7).shape == (5, 0)
    assert take_rows(nothing, np.array([1, 3])).shape == (2, 0)


def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    array = stored_table(tmp_path, 1_000).x_num
    os.truncate(tmp_path / "x_num.bin", 4_000)
    with pytest.raises(UserError, match=r"paths\.cache_dir: .*x_num\.bin has become shorter: run again"):
        read_rows(array, 0, 1_000)


def test_a_disk_that_fails_is_to_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = stored_table(tmp_path, 1_000).x_num

    class Failing(FileIO):
        def readinto(self, *_: Any) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(stored_rows, "FileIO", Failing)
    with pytest.raises(RetryError, match=r"paths\.cache_dir: cannot read .*x_num\.bin: Input/output error"):
        read_rows(array, 0, 10)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="macOS has no advice about pages")
def test_the_page_cache_is_told_to_drop_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = stored_table(tmp_path, 5_000).x_num
    told: list[tuple[int, int]] = []

    def advise(_: int, start: int, size: int, advice: int) -> None:
        if advice == os.POSIX_FADV_DONTNEED:
            told.append((start, size))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    read_rows(array, 1_000, 2_000)  # bytes 8,000 to 16,000: with the whole pages around them
    assert told == [(4_096, 12_288)]
