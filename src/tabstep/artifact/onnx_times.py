"""Dates and times in an ONNX graph: the calendar and the clocks of zones in plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, get_args

import numpy as np
import torch
from torch import Tensor, nn

from tabstep.artifact.onnx_search import Columns, Search
from tabstep.encoding.categorical import MISSING, NUM_SPECIAL, UNSEEN
from tabstep.encoding.times import (
    AMPLITUDE,
    EARLIEST,
    LATEST,
    MAX_YEAR,
    SIZES,
    YEAR_DAYS,
    Code,
    Cycle,
    TimeColumn,
    clock_changes,
)

_CODES: Final[tuple[Code, ...]] = get_args(Code)
_CYCLES: Final[tuple[Cycle, ...]] = get_args(Cycle)
_DAY: Final = 86_400.0
_HOUR: Final = 3_600.0
_SINCE_MARCH: Final = 719_468.0  # days from 1 March of the year 0 to 1970
_ERA: Final = 146_097.0  # days of 400 years


class TimesGraph(nn.Module):
    """``TimeColumn.inputs`` and ``TimeColumn.encode`` of some columns of ``(B, n)``, to float32 and int64.

    The clock of a zone is right from 1900 to 2100, and goes on as at their ends.
    """

    units: Tensor

    def __init__(self, columns: Sequence[TimeColumn], place: Mapping[str, int]) -> None:
        super().__init__()
        self.chosen = Columns([place[column.name] for column in columns])
        self.register_buffer("units", torch.tensor([float(column.unit) for column in columns], dtype=torch.float64))
        self.zones = _Zones(columns) if any(column.zone is not None for column in columns) else None
        self.codes = _Codes(columns)
        self.inputs = _Inputs(columns)

    def forward(self, values: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        missing = self.chosen(missing)
        seconds = (self.chosen(values) * self.units).clamp(EARLIEST, LATEST)
        if self.zones is not None:
            seconds = self.zones(seconds)
        day = torch.floor(seconds / _DAY)
        of_day = seconds - day * _DAY
        year, month, day_of_year = calendar(day)
        codes = self.codes(torch.cat([torch.floor(of_day / _HOUR), _weekday(day), month], dim=1), missing)
        inputs = self.inputs(torch.cat([of_day / _DAY, day_of_year / YEAR_DAYS], dim=1), year, missing)
        return inputs, codes


class _Zones(nn.Module):
    """Seconds since 1970 to those that the clock of each column's zone shows, ``(B, k)`` both."""

    offsets: Tensor

    def __init__(self, columns: Sequence[TimeColumn]) -> None:
        super().__init__()
        always = (np.empty(0), np.zeros(1))
        found = [always if column.zone is None else clock_changes(column.zone, column.name) for column in columns]
        # every time is above the first of each list
        self.search = Search([np.append(-np.inf, changes) for changes, _ in found])
        self.register_buffer("offsets", torch.from_numpy(np.concatenate([offsets for _, offsets in found])))

    def forward(self, seconds: Tensor) -> Tensor:
        return seconds + self.offsets[self.search(seconds)]


class _Codes(nn.Module):
    """Hours, weekdays and months ``(B, 3 k)`` to the codes of those that each column has."""

    tables: Tensor
    starts: Tensor

    def __init__(self, columns: Sequence[TimeColumn]) -> None:
        super().__init__()
        wanted = [(index, part) for index, column in enumerate(columns) for part in column.codes]
        self.parts = Columns([_CODES.index(part) * len(columns) + index for index, part in wanted])
        self.owners = Columns([index for index, _ in wanted])
        longest = max(SIZES.values())
        table = np.full((len(wanted), longest), UNSEEN, dtype=np.int64)
        for row, (index, part) in enumerate(wanted):
            kept = columns[index].codes[part]
            table[row, list(kept)] = np.arange(len(kept)) + NUM_SPECIAL
        self.last = longest - 1
        self.register_buffer("tables", torch.from_numpy(table.ravel()))
        self.register_buffer("starts", torch.arange(len(wanted)) * longest)

    def forward(self, parts: Tensor, missing: Tensor) -> Tensor:
        codes = self.tables[self.starts + self.parts(parts).long().clamp(0, self.last)]
        return torch.where(self.owners(missing), MISSING, codes)


class _Inputs(nn.Module):
    """Turns of the day and of the year ``(B, 2 k)``, and years ``(B, k)``, to sines, cosines and scaled years."""

    middles: Tensor
    halves: Tensor

    def __init__(self, columns: Sequence[TimeColumn]) -> None:
        super().__init__()
        cycles = [(index, cycle) for index, column in enumerate(columns) for cycle in column.cycles]
        years = [(index, column.years) for index, column in enumerate(columns) if column.years is not None]
        self.turns = Columns([_CYCLES.index(cycle) * len(columns) + index for index, cycle in cycles])
        self.years = Columns([index for index, _ in years])
        self.register_buffer("middles", torch.tensor([(a + b) / 2 for _, (a, b) in years], dtype=torch.float64))
        self.register_buffer("halves", torch.tensor([(b - a) / 2 for _, (a, b) in years], dtype=torch.float64))
        # Sines, then cosines, then years: which column each is of, and its place among the inputs of that column.
        owners = [*(2 * [index for index, _ in cycles]), *(index for index, _ in years)]
        ranks = [*(2 * turn + wave for wave in (0, 1) for turn in range(len(cycles))), *[2 * len(cycles)] * len(years)]
        order = sorted(range(len(owners)), key=lambda each: (owners[each], ranks[each]))
        self.order = Columns(order)
        self.owners = Columns([owners[each] for each in order])

    def forward(self, turns: Tensor, years: Tensor, missing: Tensor) -> Tensor:
        angles = self.turns(turns) * (2.0 * math.pi)
        scaled = ((self.years(years) - self.middles) / self.halves).clamp(-MAX_YEAR, MAX_YEAR)
        parts = torch.cat([torch.sin(angles) * AMPLITUDE, torch.cos(angles) * AMPLITUDE, scaled], dim=1)
        return torch.where(self.owners(missing), 0.0, self.order(parts)).float()


def _weekday(day: Tensor) -> Tensor:
    return day + 3.0 - torch.floor((day + 3.0) / 7.0) * 7.0


def calendar(day: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return year, month (January is 0) and day of the year (from 0) of days since 1970, all as whole float64.

    Years are taken to begin in March, so that the leap day is their last (Hinnant, "chrono-compatible low-level date
    algorithms", civil_from_days).

    >>> [int(part) for part in calendar(torch.tensor(19_782.0))]  # 29 February 2024
    [2024, 1, 59]
    """
    since = day + _SINCE_MARCH
    era = torch.floor(since / _ERA)
    of_era = since - era * _ERA
    leaps = torch.floor(of_era / 1_460.0) - torch.floor(of_era / 36_524.0) + torch.floor(of_era / 146_096.0)
    year_of_era = torch.floor((of_era - leaps) / 365.0)
    month = torch.floor((5.0 * (of_era - _days_before(year_of_era)) + 2.0) / 153.0)
    early = (month >= 10.0).to(day.dtype)  # January and February belong to the next year
    year = year_of_era + era * 400.0 + early
    # 719,162 days lie between the years 1 and 1970
    return year, month + 2.0 - 12.0 * early, day - (_days_before(year - 1.0) - 719_162.0)


def _days_before(years: Tensor) -> Tensor:
    """Return the days of so many years: every fourth is a leap year, but of the hundredth only the four-hundredth."""
    return 365.0 * years + torch.floor(years / 4.0) - torch.floor(years / 100.0) + torch.floor(years / 400.0)
