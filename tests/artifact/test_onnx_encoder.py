"""What the graph makes of raw values is what the encoder does, to the last bit of float32 but for sines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.conftest import CATEGORICAL, NUMERIC, _rich_table

from tabstep.artifact.onnx_encoder import EncoderGraph
from tabstep.artifact.onnx_file import graph_inputs
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.schema import Schema
from tabstep.tables.source import open_source

LARGEST = 1.7976931348623157e308
NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True, width=64) | st.sampled_from([0.0, 5e-324, LARGEST])
SCALINGS = ("quantile", "robust", "standard")


def fit(table: pa.Table, directory: Path, schema: Schema, scaling: Any = "quantile") -> Encoder:
    pq.write_table(table, directory / "train.parquet")
    options = EncoderOptions(scaling=scaling, max_categories=100, min_frequency=1)
    return Encoder.fit(open_source(str(directory / "train.parquet"), split="train"), schema, options=options)


def check(encoder: Encoder, batch: pa.RecordBatch) -> None:
    given = {name: torch.from_numpy(values) for name, values in graph_inputs(encoder, batch).items()}
    with torch.inference_mode():
        x_num, x_cat = EncoderGraph(encoder)(given.get("numeric"), given.get("categorical"))
    expected_num, expected_cat = encoder.transform(batch)
    assert (x_num.dtype, x_cat.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(x_cat.numpy(), expected_cat)
    np.testing.assert_allclose(x_num.numpy(), expected_num, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_kind_of_column(scaling: str, tmp_path: Path) -> None:
    schema = Schema(id="row_id", label=("label",), numeric=NUMERIC, categorical=CATEGORICAL)
    encoder = fit(_rich_table(600), tmp_path, schema, scaling)
    assert [column.zone for column in encoder.times] == [None, "Europe/Berlin", None, None]
    for table in (_rich_table(600), _rich_table(300, seed=1), _rich_table(600).slice(5, 1), _rich_table(9).slice(0, 0)):
        check(encoder, table.combine_chunks().to_batches()[0] if len(table) else empty(table))


def empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=table.schema)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    train=st.lists(NUMBERS, min_size=3, max_size=40),
    rows=st.lists(NUMBERS, min_size=1, max_size=40),
    scaling=st.sampled_from(SCALINGS),
)
def test_any_numbers(train: list[float | None], rows: list[float | None], scaling: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": pa.array(train, pa.float64()),
            "b": pa.array([7.0, *[0.0] * (len(train) - 2), None]),
            "y": [index % 2 for index in range(len(train))],
        }
    )
    encoder = fit(table, tmp_path, Schema(label=("y",), numeric=("a", "b"), categorical=()), scaling)
    near = [value for value in train if value is not None]
    values = [*rows, *near, *(float(np.nextafter(value, 0)) for value in near)]
    check(encoder, pa.record_batch({"a": pa.array(values, pa.float64()), "b": pa.array(values[::-1], pa.float64())}))


def test_values_with_codes_and_rates_of_the_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 4_000
    left, right = rng.integers(0, 30, rows), rng.integers(0, 30, rows)
    rate = rng.random((30, 30))[left, right]
    table = pa.table(
        {
            "gain": np.where(rng.random(rows) < 0.7, 0.0, rng.choice([1.5, 3.0, 99_999.0], rows)),
            "left": [f"l{value}" for value in left],
            "right": [f"r{value}" for value in right],
            "y": (rng.random(rows) < np.where(rate > 0.5, 0.9, 0.1)).astype(int),
        }
    )
    encoder = fit(table, tmp_path, Schema(label=("y",), numeric=("gain",), categorical=("left", "right")))
    assert encoder.spikes
    assert max(len(statistic.columns) for statistic in encoder.statistics) > 1
    check(encoder, table.combine_chunks().to_batches()[0])
    gains = [0.0, 1.5, 1.6, -1.0, 1e300, None]
    texts: list[str | None] = ["l1", "none", None, "l2", "l3", "l4"]
    check(encoder, pa.record_batch({"gain": gains, "left": texts, "right": ["r1", None, "r2", "new", "r29", "r0"]}))


def many_days(make: Callable[[int], Any]) -> list[Any]:
    return [make(number) for number in np.random.default_rng(0).integers(-719_162, 2_932_896, 3_000).tolist()]


def test_days_of_all_years(tmp_path: Path) -> None:
    days = [dt.date(1970, 1, 1) + dt.timedelta(days=day) for day in many_days(int)]
    leap = [
        dt.date(year, month, day) for year in (1900, 2000, 2023, 2024) for month, day in ((2, 28), (3, 1), (12, 31))
    ]
    table = pa.table({"d": pa.array([*days, *leap, dt.date(2000, 2, 29), dt.date(2024, 2, 29)])})
    table = table.append_column("y", pa.array([index % 2 for index in range(len(table))]))
    encoder = fit(table, tmp_path, Schema(label=("y",), numeric=("d",), categorical=()))
    assert encoder.times[0].cycles == ("day of year",)
    assert len(encoder.times[0].codes["month"]) == 12
    check(encoder, table.combine_chunks().to_batches()[0])


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "+05:30"]
)
def test_the_clock_of_a_zone(zone: str, tmp_path: Path) -> None:
    seconds = np.random.default_rng(0).integers(-2_208_988_800, 4_102_444_800, 3_000)
    table = pa.table({"t": pa.array(seconds).cast(pa.timestamp("s", tz=zone)), "y": seconds % 2})
    encoder = fit(table, tmp_path, Schema(label=("y",), numeric=("t",), categorical=()))
    assert encoder.times[0].zone == zone
    changes = np.array([1_711_846_800, 1_729_990_800, 1_712_415_600])  # of Berlin twice, of Lord Howe
    near = (changes[:, None] + np.arange(-3_600, 3_601, 600)).ravel()
    for instants in (seconds, near, near - 1):
        check(encoder, pa.record_batch({"t": pa.array(instants).cast(pa.timestamp("s", tz=zone))}))
