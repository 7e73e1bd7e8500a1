"""Dates and times as a person reads them: hour, weekday, month, day of the year and year, beside the elapsed time.

What is shown twice in train can be learned of a part: an hour where there is more than one day, a weekday where there
is more than one week, a day of the year where there is more than one year. A month needs two months: within a year it
stands for the season. The elapsed time itself is a number like any other, and scaled as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from tabstep.encoding.categorical import MISSING, NUM_SPECIAL, UNSEEN
from tabstep.errors import UserError
from tabstep.tables.column_types import ValueKind, value_kind, value_type
from tabstep.tables.record_batch import numbers

Code = Literal["hour", "weekday", "month"]
Cycle = Literal["hour", "day of year"]

_CLOCKS: Final[tuple[ValueKind, ...]] = ("date", "timestamp", "zoned timestamp", "time")
_DAY: Final = 86_400
_HOUR: Final = 3_600
_CODES_FROM: Final[Mapping[Code, int]] = {"hour": _DAY, "weekday": 7 * _DAY, "month": 62 * _DAY}
_YEAR_FROM: Final = 366 * _DAY
# rows of an hour, a weekday or a month that has a code
_MIN_COUNT: Final = 5
EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0  # the years 1 and 9999: beyond, zones overflow
_CHANGES: Final = (-2_208_988_800, 4_102_444_800)  # 1900 to 2100
_UTC: Final = ("UTC", "Etc/UTC", "+00:00", "Z", "GMT")
AMPLITUDE: Final = math.sqrt(2.0)  # of a cycle with variance 1
YEAR_DAYS: Final = 365.25
MAX_YEAR: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class TimeColumn:
    """One column of dates, timestamps or times of day as it was fitted.

    ``unit`` is the number of seconds of 1, ``zone`` the time zone whose clock is read (None: as it is written).
    ``codes`` are the values of each part that train holds at least five times, ``years`` its first and last year.

    >>> column = TimeColumn(name="t", unit=1, zone=None, codes={"hour": (0, 6)}, cycles=("hour",), years=None)
    >>> values = np.array([0.0, 6 * 3600.0, 7 * 3600.0, np.nan])
    >>> column.encode(values).tolist()
    [[3], [4], [1], [0]]
    >>> column.inputs(values).round(2).tolist()
    [[0.0, 1.41], [1.41, 0.0], [1.37, -0.37], [0.0, 0.0]]
    """

    name: str
    unit: int
    zone: str | None
    codes: Mapping[Code, tuple[int, ...]]
    cycles: tuple[Cycle, ...]
    years: tuple[int, int] | None

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns of ``inputs``."""
        circular = [f"{self.name}: {wave} of {cycle}" for cycle in self.cycles for wave in ("sine", "cosine")]
        return (*circular, *([] if self.years is None else [f"{self.name}: year"]))

    @property
    def code_names(self) -> tuple[str, ...]:
        """Names of the columns of ``encode``."""
        return tuple(f"{self.name}: {part}" for part in self.codes)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each part, the special ones included."""
        return tuple(NUM_SPECIAL + len(values) for values in self.codes.values())

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return ``(n, len(codes))`` int32 of ``(n,)`` float64; NaN is MISSING, what train hardly has is UNSEEN."""
        seconds, missing = _clock(values, self.unit, self.zone, self.name)
        result = np.empty((len(values), len(self.codes)), dtype=np.int32)
        for index, (part, table) in enumerate(self._tables.items()):
            result[:, index] = table[_PARTS[part](seconds)]
        result[missing] = MISSING
        return result

    @cached_property
    def _tables(self) -> dict[Code, np.ndarray]:
        """The code of each value of each part."""
        tables: dict[Code, np.ndarray] = {}
        for part, kept in self.codes.items():
            tables[part] = np.full(SIZES[part], UNSEEN, dtype=np.int32)
            tables[part][list(kept)] = np.arange(len(kept)) + NUM_SPECIAL
        return tables

    def inputs(self, values: np.ndarray) -> np.ndarray:
        """Return ``(n, len(input_names))`` float64: sine and cosine of each cycle, then the year; 0 where missing."""
        seconds, missing = _clock(values, self.unit, self.zone, self.name)
        columns = []
        for cycle in self.cycles:
            angle = 2.0 * math.pi * _TURNS[cycle](seconds)
            columns += [AMPLITUDE * np.sin(angle), AMPLITUDE * np.cos(angle)]
        if self.years is not None:
            first, last = self.years
            scaled = (_years(seconds) - (first + last) / 2) / ((last - first) / 2)
            columns.append(scaled.clip(-MAX_YEAR, MAX_YEAR))
        result = np.column_stack(columns) if columns else np.empty((len(values), 0))
        result[missing] = 0.0
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "zone": self.zone,
            "codes": {part: list(values) for part, values in self.codes.items()},
            "cycles": list(self.cycles),
            "years": None if self.years is None else list(self.years),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TimeColumn:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        return cls(
            name=data["name"],
            unit=data["unit"],
            zone=data["zone"],
            codes={part: tuple(values) for part, values in data["codes"].items()},
            cycles=tuple(data["cycles"]),
            years=None if data["years"] is None else (data["years"][0], data["years"][1]),
        )


class TimeFit:
    """Collects span, resolution and parts of those columns of ``names`` that hold dates or times, batch by batch.

    >>> import datetime
    >>> days = pa.record_batch({"d": [datetime.date(2024, 1, 1) + datetime.timedelta(days=n) for n in range(40)]})
    >>> fitted = TimeFit(days.schema, ["d"])
    >>> fitted.add(days)
    >>> fitted.finish()[0].code_names, fitted.finish()[0].input_names
    (('d: weekday',), ())
    """

    def __init__(self, schema: pa.Schema, names: Sequence[str]) -> None:
        fields = {name: value_type(schema.field(name).type) for name in names}
        self._clocks = {name: _Seen(dtype) for name, dtype in fields.items() if value_kind(dtype) in _CLOCKS}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the rows of ``batch``."""
        self.merge(self.part(batch))

    def part(self, batch: pa.RecordBatch) -> list[np.ndarray]:
        """Return what ``merge`` takes of ``batch``: the seconds of each column, where there are any."""
        clocks = (_clock(numbers(batch, name), seen.unit, seen.zone, name) for name, seen in self._clocks.items())
        return [seconds[~missing] for seconds, missing in clocks]

    def merge(self, part: list[np.ndarray]) -> None:
        """Take the rows of the next batch."""
        for seen, seconds in zip(self._clocks.values(), part, strict=True):
            seen.add(seconds)

    def join(self, other: TimeFit) -> None:
        """Take the rows of another fit."""
        for name, seen in self._clocks.items():
            seen.join(other._clocks[name])

    def finish(self) -> tuple[TimeColumn, ...]:
        """Return the columns of which train shows a part."""
        columns = (seen.column(name) for name, seen in self._clocks.items())
        return tuple(column for column in columns if column.codes or column.input_names)


class _Seen:
    """What train shows of one column."""

    def __init__(self, dtype: pa.DataType) -> None:
        self.unit = _DAY if types.is_date(dtype) else 1
        self.zone = dtype.tz if types.is_timestamp(dtype) and dtype.tz not in _UTC else None
        self._of_day = types.is_time(dtype)
        self._counts: dict[Code, np.ndarray] = {part: np.zeros(SIZES[part], dtype=np.int64) for part in _PARTS}
        self._range = (math.inf, -math.inf)
        self._clock_range = (math.inf, -math.inf)

    def add(self, seconds: np.ndarray) -> None:
        if not seconds.size:
            return
        self._range = _widened(self._range, seconds)
        self._clock_range = _widened(self._clock_range, seconds % _DAY)
        for part, counts in self._counts.items():
            counts += np.bincount(_PARTS[part](seconds), minlength=len(counts))

    def join(self, other: _Seen) -> None:
        self._range = _joined(self._range, other._range)
        self._clock_range = _joined(self._clock_range, other._clock_range)
        for part, counts in self._counts.items():
            counts += other._counts[part]

    def column(self, name: str) -> TimeColumn:
        first, last = self._range
        span = last - first
        # a column that always shows one time of day, such as midnight, has none
        has_hours = self._clock_range[0] < self._clock_range[1]
        shown: dict[Code, bool] = {part: span > least for part, least in _CODES_FROM.items()}
        shown["hour"] = has_hours and (shown["hour"] or self._of_day)
        codes = {
            part: tuple(np.flatnonzero(counts >= _MIN_COUNT).tolist())
            for part, counts in self._counts.items()
            if shown[part]
        }
        cycles: list[Cycle] = ["hour"] if shown["hour"] else []
        years = None
        if span >= _YEAR_FROM:
            cycles.append("day of year")
            low, high = _years(np.array([first, last])).tolist()
            years = (low, high)
        return TimeColumn(name=name, unit=self.unit, zone=self.zone, codes=codes, cycles=tuple(cycles), years=years)


def _widened(known: tuple[float, float], values: np.ndarray) -> tuple[float, float]:
    return _joined(known, (float(values.min()), float(values.max())))


def _joined(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _clock(values: np.ndarray, unit: int, zone: str | None, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds since 1970 that a clock of the zone shows, 0 where missing, and where that is."""
    missing = np.isnan(values)
    seconds = np.where(missing, 0.0, values * unit).clip(EARLIEST, LATEST)
    if zone is None:
        return seconds, missing
    micros = np.rint(seconds * 1e6).astype(np.int64)
    try:
        local = pc.local_timestamp(pa.array(micros).cast(pa.timestamp("us", tz=zone)))
    except pa.ArrowInvalid as error:
        raise UserError(f"column {name!r}: time zone {zone!r} cannot be read here ({error}): install tzdata") from None
    return local.cast(pa.int64()).to_numpy() / 1e6, missing


def clock_changes(zone: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(k,)`` the seconds since 1970, from 1900 to 2100, at which a zone changes its clocks, and the offsets.

    The offsets ``(k + 1,)`` are seconds ahead of UTC: before the first change, and from each change on.

    >>> changes, offsets = clock_changes("Europe/Berlin", "t")
    >>> [int(offsets[np.searchsorted(changes, day * _DAY, "right")]) for day in (19_740, 19_900)]
    [3600, 7200]
    """

    def offsets(seconds: np.ndarray) -> np.ndarray:
        found: np.ndarray = _clock(seconds, 1, zone, name)[0] - seconds
        return found

    # an hour holds one change of the clocks at most
    hours = np.arange(*_CHANGES, _HOUR, dtype=np.float64)
    known = offsets(hours)
    # the hours between which the offset changes; halving them finds the second
    before = hours[np.flatnonzero(np.diff(known))]
    after = before + _HOUR
    while (after - before > 1.0).any():
        middle = np.floor((before + after) / 2)
        same = offsets(middle) == offsets(before)
        before, after = np.where(same, middle, before), np.where(same, after, middle)
    return after, np.append(known[0], offsets(after))


def _dates(seconds: np.ndarray) -> np.ndarray:
    return np.floor(seconds / _DAY).astype("datetime64[D]")


def _hours(seconds: np.ndarray) -> np.ndarray:
    hours: np.ndarray = (seconds % _DAY // _HOUR).astype(np.int64)
    return hours


def _weekdays(seconds: np.ndarray) -> np.ndarray:
    """Monday is 0; 1970 began on a Thursday."""
    weekdays: np.ndarray = (_dates(seconds).astype(np.int64) + 3) % 7
    return weekdays


def _months(seconds: np.ndarray) -> np.ndarray:
    """January is 0."""
    months: np.ndarray = _dates(seconds).astype("datetime64[M]").astype(np.int64) % 12
    return months


def _years(seconds: np.ndarray) -> np.ndarray:
    years: np.ndarray = _dates(seconds).astype("datetime64[Y]").astype(np.int64) + 1970
    return years


def _turn_of_day(seconds: np.ndarray) -> np.ndarray:
    return seconds % _DAY / _DAY


def _turn_of_year(seconds: np.ndarray) -> np.ndarray:
    dates = _dates(seconds)
    days: np.ndarray = (dates - dates.astype("datetime64[Y]")).astype(np.int64)
    return days / YEAR_DAYS


_PARTS: Final[Mapping[Code, Callable[[np.ndarray], np.ndarray]]] = {
    "hour": _hours,
    "weekday": _weekdays,
    "month": _months,
}
SIZES: Final[Mapping[Code, int]] = {"hour": 24, "weekday": 7, "month": 12}
_TURNS: Final[Mapping[Cycle, Callable[[np.ndarray], np.ndarray]]] = {
    "hour": _turn_of_day,
    "day of year": _turn_of_year,
}
