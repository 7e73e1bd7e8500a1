"""Slices of a table with known losses."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from tabstep.analysis.slices import Slice, mean_interval, worst_slices
from tabstep.schema import Schema

SCHEMA = Schema(label=("y",), numeric=("age", "day"), categorical=("city",))


def test_a_bad_slice_of_each_kind_is_found() -> None:
    rng = np.random.default_rng(0)
    age = rng.permutation(np.arange(1000.0))
    city = rng.choice(["Bonn", "Ulm", "=1+1"], 1000)
    days = pa.array(rng.integers(0, 100, 1000).astype(np.int32)).cast(pa.date32())
    rows = pa.record_batch({"age": pa.array(age, mask=age < 100), "city": city.tolist(), "day": days})
    losses = rng.random(1000) * 0.1 + (city == "Ulm") + 2.0 * (age >= 800)
    found = worst_slices(rows, SCHEMA, losses, (losses < 0.5).astype(float))
    assert [(part.column, part.value) for part in found][:2] == [("age", "819 to 999"), ("city", "Ulm")]
    ulm = next(part for part in found if part.column == "city")
    assert (ulm.value, ulm.rows) == ("Ulm", int((city == "Ulm").sum()))
    assert ulm.loss.value == pytest.approx(losses[city == "Ulm"].mean())
    assert ulm.accuracy.value == pytest.approx((losses < 0.5)[city == "Ulm"].mean())
    assert all(part.loss.value > losses.mean() for part in found)
    assert Slice.from_dict(ulm.to_dict()) == ulm


def test_values_are_named_as_the_table_has_them() -> None:
    days = pa.array([datetime.date(2025, 1, 1 + index % 20) for index in range(200)])
    missing = pa.array([None if index < 40 else 1.0 for index in range(200)])
    rows = pa.record_batch({"age": missing, "city": pa.nulls(200, pa.string()), "day": days})
    losses = np.arange(200.0) * -1
    names = {(part.column, part.value) for part in worst_slices(rows, SCHEMA, losses, losses, count=50)}
    assert ("age", "missing") in names
    assert all(value.startswith("2025-01-") for column, value in names if column == "day")
    assert not any(column == "city" for column, _ in names)  # all rows are no slice


def test_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = stats.norm.interval(0.95, loc=values.mean(), scale=stats.sem(values))
    found = mean_interval(values)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
