from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tabstep.encoding.sketch import Moments, RowSample, ValueCounts, row_keys


def cut(block: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(block, np.cumsum(sizes), axis=1)


def test_row_keys_depend_on_seed_and_row_alone() -> None:
    whole = row_keys(0, 1000, seed=7)
    assert np.array_equal(np.concatenate([row_keys(0, 1, 7), row_keys(1, 499, 7), row_keys(500, 500, 7)]), whole)
    assert len(np.unique(whole)) == 1000
    assert not np.array_equal(whole, row_keys(0, 1000, seed=8))


def test_row_keys_are_uniform_and_seeds_are_independent() -> None:
    bits = np.unpackbits(row_keys(0, 100_000, seed=0).view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.01
    shares = [row_keys(0, 100_000, seed) < np.uint64(2**62) for seed in (0, 1)]
    assert abs((shares[0] & shares[1]).mean() - 1 / 16) < 0.005


def test_sample_is_everything_of_a_small_table() -> None:
    sample = RowSample(num_columns=2, num_rows=5, limit=5, seed=0)
    sample.add(np.array([[3.0, 1.0, np.nan], [0.0, 0.0, 0.0]]), 0)
    sample.add(np.array([[2.0, 5.0], [0.0, 0.0]]), 3)
    assert sample.column(0).tolist() == [1.0, 2.0, 3.0, 5.0]


@pytest.mark.parametrize("sizes", [[10_000], [1, 9_999], [7, 100, 4_000, 2]])
def test_sample_is_uniform_and_does_not_depend_on_batches(sizes: list[int]) -> None:
    rows = np.arange(100_000.0)[None]
    sample = RowSample(num_columns=1, num_rows=100_000, limit=1_000, seed=3)
    first = 0
    for block in cut(rows, sizes):
        sample.add(block, first)
        first += block.shape[1]
    taken = sample.column(0)
    assert abs(len(taken) - 1_000) < 150
    assert np.histogram(taken, bins=4, range=(0, 100_000))[0].min() > 180
    assert np.array_equal(taken, rows[0][row_keys(0, 100_000, 3) < np.uint64(2**64 // 100)])


finite = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(
    block=hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(1, 40)), elements=finite | st.just(float("nan"))),
    sizes=st.lists(st.integers(0, 10), max_size=4),
)
def test_moments_equal_numpy(block: np.ndarray, sizes: list[int]) -> None:
    moments = Moments(2)
    for part in cut(block, sizes):
        moments.add(part)
    assert moments.rows == block.shape[1]
    for index, column in enumerate(block):
        values = column[~np.isnan(column)]
        assert moments.count[index] == len(values)
        if len(values):
            scale = np.abs(values).max()
            assert moments.mean[index] == pytest.approx(values.mean(), rel=1e-12, abs=1e-12 * scale)
            assert moments.std[index] == pytest.approx(values.std(), rel=1e-9, abs=1e-7 * scale)
            assert (moments.minimum[index], moments.maximum[index]) == (values.min(), values.max())


def test_moments_of_large_numbers_that_hardly_differ() -> None:
    times = 1.7e9 + np.random.default_rng(0).normal(size=100_000)
    moments = Moments(1)
    for part in np.split(times, 10):
        moments.add(part[None])
    assert moments.std[0] == pytest.approx(times.std(), rel=1e-9)


@given(
    values=st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=3), max_size=60), step=st.integers(1, 9)
)
def test_value_counts_equal_a_counter(values: list[str | None], step: int) -> None:
    counts = ValueCounts(capacity=1_000)
    for start in range(0, len(values), step):
        counts.add(pa.array(values[start : start + step], pa.string()))
    found = counts.finish()
    expected = sorted(
        Counter(v for v in values if v is not None).items(), key=lambda item: (-item[1], item[0].encode())
    )
    assert list(zip(found.values.to_pylist(), found.counts.tolist(), strict=True)) == expected
    assert found.error == 0


def test_value_counts_keep_what_is_frequent_when_there_are_too_many() -> None:
    rng = np.random.default_rng(0)
    counts = ValueCounts(capacity=100)
    frequent = [f"f{index}" for index in range(10)]
    rows = 0
    for _ in range(20):
        rare = [f"r{value}" for value in rng.integers(0, 10**9, 900)]
        values = rng.permutation(rare + frequent * 10)
        counts.add(pa.array(values.tolist(), pa.string()))
        rows += len(values)
    found = counts.finish()
    assert sorted(found.values[:10].to_pylist()) == sorted(frequent)
    assert 0 < found.error <= rows / 100
    assert all(count <= 200 <= count + found.error for count in found.counts[:10])
    assert len(found.values) <= 100


def test_value_counts_bound_bytes_as_well() -> None:
    counts = ValueCounts(capacity=10**6, max_bytes=2**20)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    for start in range(0, 20_000, 1_000):
        counts.add(pa.array([f"{index:01000d}" for index in range(start, start + 1_000)]))
    assert pa.total_allocated_bytes() - before < 2**23
    assert counts.finish().error > 0
    tracemalloc.stop()
