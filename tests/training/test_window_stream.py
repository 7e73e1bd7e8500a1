from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.encoding.stored_table import stored_table

from tabstep.encoding import encoded_table
from tabstep.errors import RetryError
from tabstep.training import window_stream
from tabstep.training.datamodule import Batch, Rows, TrainLoader, num_batches
from tabstep.training.epoch_order import EpochOrder
from tabstep.training.window_stream import WindowStream


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def batches(
    table: Rows, *, batch_size: int, window: int, start: int = 0, ranks: tuple[int, int] = (0, 1)
) -> list[Batch]:
    rank, world_size = ranks
    rows = len(table.y)
    order = EpochOrder(rows, seed=3, epoch=1, window=window, block=7)
    total = num_batches(rows, batch_size, world_size)
    return list(
        TrainLoader(table, order, batch_size=batch_size, total=total, start=start, rank=rank, world_size=world_size)
    )


@given(
    rows=st.integers(1, 300),
    batch_size=st.integers(1, 60),
    window=st.integers(1, 400),
    block=st.integers(1, 50),
    start=st.floats(0, 1),
    world_size=st.integers(1, 4),
)
def test_batches_from_disk_are_those_from_memory(
    place: Path, rows: int, batch_size: int, window: int, block: int, start: float, world_size: int
) -> None:
    stored = stored_table(place / str(rows), rows, weight=rows % 2 == 1, num_numeric=rows % 3)
    first = int(start * (num_batches(rows, batch_size, world_size) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_stream, "BLOCK", block)
        for rank in range(world_size):
            found, expected = (
                batches(table, batch_size=batch_size, window=window, start=first, ranks=(rank, world_size))
                for table in (stored, Batch(*(torch.from_numpy(part.copy()) for part in stored.arrays.present)))
            )
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                assert len(one.tensors) == len(other.tensors)
                for ours, theirs in zip(one.tensors, other.tensors, strict=True):
                    assert ours.dtype == theirs.dtype
                    assert torch.equal(ours, theirs)


def test_memory_is_that_of_two_windows_and_only_of_this_ranks_rows(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = stored_table(place / "wide", 20_000, num_numeric=8)
    held: list[int] = []
    room = window_stream._Buffer.of
    monkeypatch.setattr(window_stream._Buffer, "of", lambda self, rows: held.append(rows) or room(self, rows))
    for world_size in (1, 4):
        held.clear()
        order = EpochOrder(20_000, seed=0, epoch=0, window=2_000, block=100)
        total = num_batches(20_000, 200, world_size)
        for _ in TrainLoader(table, order, batch_size=200, total=total, start=0, rank=0, world_size=world_size):
            pass
        assert held == [2_000 // world_size] * 10


def test_an_epoch_that_is_left_in_its_middle_leaves_no_thread(place: Path) -> None:
    table, before = stored_table(place / "left", 1_000), {*threading.enumerate()}
    stream = iter(WindowStream(table, EpochOrder(1_000, seed=0, epoch=0, window=100, block=10), range(10), _hundred))
    next(stream)
    assert {*threading.enumerate()} - before
    del stream
    assert not {*threading.enumerate()} - before


def test_the_last_batch_leaves_no_thread_while_nobody_asks_for_another(place: Path) -> None:
    table, before = stored_table(place / "last", 1_000), {*threading.enumerate()}
    stream = iter(WindowStream(table, EpochOrder(1_000, seed=0, epoch=0, window=100, block=10), range(10), _hundred))
    for _ in range(10):
        next(stream)
    assert not {*threading.enumerate()} - before


def test_a_disk_that_fails_in_the_thread_ends_the_epoch(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = stored_table(place / "failing", 1_000)
    read, calls = encoded_table.read_rows, 0

    def failing(array: np.ndarray, start: int, stop: int) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 100:
            raise RetryError("the disk fails")
        return read(array, start, stop)

    monkeypatch.setattr(encoded_table, "read_rows", failing)
    monkeypatch.setattr(window_stream, "BLOCK", 10)
    with pytest.raises(RetryError, match="the disk fails"):
        batches(table, batch_size=50, window=100)


def test_evaluation_reads_the_rows_that_memory_would_have(place: Path) -> None:
    from tabstep.training.datamodule import EvalLoader

    stored = stored_table(place / "val", 1_234, weight=True)
    held = Batch(*(torch.from_numpy(part.copy()) for part in stored.arrays.present))
    for rank in range(3):
        found, expected = (list(EvalLoader(table, batch_size=100, rank=rank, world_size=3)) for table in (stored, held))
        for one, other in zip(found, expected, strict=True):
            assert all(torch.equal(*pair) for pair in zip(one.tensors, other.tensors, strict=True))


def _hundred(batch: int) -> tuple[int, int]:
    return 100 * batch, 100 * (batch + 1)
