from __future__ import annotations

import datetime as dt
import json
import math
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from tabstep.encoding.categorical import MISSING, NUM_SPECIAL, UNSEEN
from tabstep.encoding.times import TimeColumn, TimeFit

START = dt.datetime(2023, 1, 5, 3, tzinfo=dt.UTC)
TIMES = [START + dt.timedelta(hours=7 * n) for n in range(2000)]  # nineteen months


def fitted(zone: str | None) -> TimeColumn:
    values = TIMES if zone else [time.replace(tzinfo=None) for time in TIMES]
    batch = pa.record_batch({"t": pa.array(values, pa.timestamp("s", tz=zone))})
    fit = TimeFit(batch.schema, ["t"])
    fit.add(batch.slice(0, 700))
    fit.add(batch.slice(700))
    (column,) = fit.finish()
    return column


def test_codes_are_those_of_a_calendar() -> None:
    column = fitted("Europe/Berlin")
    assert column.code_names == ("t: hour", "t: weekday", "t: month")
    seconds = np.array([time.timestamp() for time in TIMES])
    codes = column.encode(seconds)
    for row in range(0, 2000, 37):
        local = TIMES[row].astimezone(ZoneInfo("Europe/Berlin"))
        assert (codes[row] - NUM_SPECIAL).tolist() == [local.hour, local.weekday(), local.month - 1]


def test_cycles_and_years_equal_the_formula() -> None:
    column = fitted(None)
    assert column.input_names[-1] == "t: year"
    assert column.years == (2023, 2024)
    found = column.inputs(np.array([time.timestamp() for time in TIMES]))
    for row in range(0, 2000, 37):
        time = TIMES[row]
        day = 2 * math.pi * (time.hour / 24)
        year = 2 * math.pi * (time.timetuple().tm_yday - 1) / 365.25
        expected = [math.sin(day), math.cos(day), math.sin(year), math.cos(year)]
        np.testing.assert_allclose(found[row, :4], math.sqrt(2) * np.array(expected), atol=1e-9)
        assert found[row, 4] == (-1 if time.year == 2023 else 1)


def test_what_train_has_not_shown_is_unseen_and_a_hole_is_missing() -> None:
    column = TimeColumn(name="t", unit=1, zone=None, codes={"hour": (0, 6)}, cycles=("hour",), years=None)
    assert column.encode(np.array([7 * 3600.0, np.nan])).tolist() == [[UNSEEN], [MISSING]]
    assert column.inputs(np.array([np.nan])).tolist() == [[0.0, 0.0]]
    assert column.cardinalities == (NUM_SPECIAL + 2,)


def test_json_goes_round() -> None:
    for column in (fitted("Europe/Berlin"), fitted(None)):
        assert TimeColumn.from_dict(json.loads(json.dumps(column.to_dict()))) == column
