from __future__ import annotations

import datetime
import json
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.encoding.times import TimeColumn, TimeFit
from tabstep.errors import UserError
from tabstep.tables.column_types import to_float64

START = datetime.datetime(2023, 1, 2, 3, 30)


def fit(values: Any, dtype: pa.DataType) -> TimeColumn | None:
    batch = pa.record_batch({"t": pa.array(values, dtype)})
    fitted = TimeFit(batch.schema, ["t"])
    for start in range(0, len(values), 37):
        fitted.add(batch.slice(start, 37))
    columns = fitted.finish()
    return columns[0] if columns else None


def every(step: timedelta, span: timedelta) -> list[datetime.datetime]:
    return [START + step * index for index in range(span // step + 1)]


@pytest.mark.parametrize(
    ("step", "span", "codes", "inputs"),
    [
        (timedelta(minutes=20), timedelta(hours=20), [], 0),
        (timedelta(hours=1), timedelta(days=2), ["hour"], 2),
        (timedelta(hours=1), timedelta(days=20), ["hour", "weekday"], 2),
        (timedelta(days=1), timedelta(days=20), ["weekday"], 0),
        (timedelta(days=1), timedelta(days=200), ["weekday", "month"], 0),
        (timedelta(hours=7), timedelta(days=800), ["hour", "weekday", "month"], 5),
    ],
)
def test_span_and_resolution_decide_on_the_parts(
    step: timedelta, span: timedelta, codes: list[str], inputs: int
) -> None:
    column = fit(every(step, span), pa.timestamp("ms"))
    assert (list(column.codes) if column else []) == codes
    assert (len(column.input_names) if column else 0) == inputs


def test_a_date_has_no_hour_and_a_time_of_day_nothing_else() -> None:
    date = fit([moment.date() for moment in every(timedelta(days=1), timedelta(days=800))], pa.date32())
    assert date is not None
    assert (list(date.codes), date.cycles, date.years) == (["weekday", "month"], ("day of year",), (2023, 2025))
    time = fit([datetime.time(hour) for hour in range(24)] * 5, pa.time32("s"))
    assert time is not None
    assert (list(time.codes), time.cycles, time.years) == (["hour"], ("hour",), None)
    assert fit([timedelta(hours=hour) for hour in range(100)], pa.duration("s")) is None
    assert fit(list(range(100)), pa.int64()) is None


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/New_York"])
def test_parts_are_those_of_the_calendar(zone: str | None) -> None:
    rng = np.random.default_rng(0)
    moments = [START + timedelta(seconds=int(second)) for second in rng.integers(-(10**8), 10**8, 2_000)]
    array = pa.array(moments, pa.timestamp("us")).cast(pa.timestamp("us", tz=zone))
    column = fit(array, array.type)
    assert column is not None
    codes, inputs = column.encode(to_float64(array)), column.inputs(to_float64(array))
    clock = ZoneInfo(zone or "UTC")
    local = [moment.replace(tzinfo=ZoneInfo("UTC")).astimezone(clock) for moment in moments]
    assert (codes[:, 0] - 3).tolist() == [moment.hour for moment in local]
    assert (codes[:, 1] - 3).tolist() == [moment.weekday() for moment in local]
    assert (codes[:, 2] - 3).tolist() == [moment.month - 1 for moment in local]
    angles = np.array([(moment.hour * 3600 + moment.minute * 60 + moment.second) / 86_400 for moment in local])
    np.testing.assert_allclose(inputs[:, 0], np.sqrt(2) * np.sin(2 * np.pi * angles), atol=1e-9)
    days = np.array([moment.timetuple().tm_yday - 1 for moment in local]) / 365.25
    np.testing.assert_allclose(inputs[:, 3], np.sqrt(2) * np.cos(2 * np.pi * days), atol=1e-9)
    years = np.array([moment.year for moment in local])
    np.testing.assert_allclose(inputs[:, 4], (years - (years.min() + years.max()) / 2) / (np.ptp(years) / 2))


def test_missing_and_what_train_hardly_has() -> None:
    column = fit([None, *every(timedelta(hours=24), timedelta(days=10)), START + timedelta(hours=5)], pa.timestamp("s"))
    assert column is not None
    assert column.codes == {"hour": (3,), "weekday": ()}
    later = to_float64(pa.array([None, START, START + timedelta(hours=1)], pa.timestamp("s")))
    assert column.encode(later).tolist() == [[0, 0], [3, 1], [1, 1]]
    assert column.inputs(later)[0].tolist() == [0, 0]
    assert np.isfinite(column.inputs(np.array([1e300, -1e300, np.nan]))).all()


def test_a_zone_that_this_machine_does_not_know() -> None:
    column = TimeColumn(name="t", unit=1, zone="Nowhere/City", codes={}, cycles=("hour",), years=None)
    with pytest.raises(
        UserError, match=r"^column 't': time zone 'Nowhere/City' cannot be read here .*: install tzdata"
    ):
        column.inputs(np.array([0.0]))


@given(seconds=st.lists(st.floats(-1e11, 1e11) | st.just(float("nan")), min_size=1, max_size=40))
def test_a_column_comes_back_from_json_and_rows_are_read_by_themselves(seconds: list[float]) -> None:
    column = fit(every(timedelta(hours=7), timedelta(days=800)), pa.timestamp("s"))
    assert column is not None
    assert TimeColumn.from_dict(json.loads(json.dumps(column.to_dict()))) == column
    values = np.array(seconds)
    rows = [column.inputs(values[index : index + 1]) for index in range(len(values))]
    assert np.concatenate(rows).tobytes() == column.inputs(values).tobytes()
