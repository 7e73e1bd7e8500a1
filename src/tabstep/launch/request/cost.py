"""What a job can cost at most, and what it did cost: by a price table, never by asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tabstep.errors import UserError
from tabstep.launch.request.aws_facts import read_table, table
from tabstep.launch.request.job_spec import JobSpec

Prices = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Instance hours, and dollars where the price is known."""

    instance_type: str
    region: str
    hours: float  # of all instances together
    usd: float | None

    def __str__(self) -> str:
        """Hours and dollars, or that the price is not known."""
        hours = f"{self.hours:.2f} instance hours of {self.instance_type}"
        if self.usd is None:
            return f"{hours}; its price in {self.region} is unknown: add it to a file and set launch.prices"
        return f"{hours}, ${self.usd:.2f}"


def load_prices(file: str | None) -> Prices:
    """Return the built-in prices, with those of a file of the user's own over them.

    Raises:
        UserError: the file is missing or does not have the shape region: {instance type: dollars}.
    """
    own: Mapping[str, Any] = {}
    if file is not None:
        try:
            own = read_table(Path(file))
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"launch.prices: {file} cannot be read: {str(error).splitlines()[0]}") from error
    for region, group in own.items():
        if not isinstance(group, dict) or not all(_is_price(usd) for usd in group.values()):
            raise UserError(f"launch.prices: {file}: {region}: expected instance types with dollars an hour")
    builtin = table("prices")
    return {region: {**builtin.get(region, {}), **own.get(region, {})} for region in {**builtin, **own}}


def ceiling(spec: JobSpec, prices: Prices) -> Cost:
    """Return the most that the instances of a job can cost; spot is billed at most as if it were on demand."""
    return _cost(spec.instance_type, spec.region, spec.instance_count * spec.max_run, prices)


def billed(description: Mapping[str, Any], region: str, prices: Prices) -> Cost:
    """Return what a finished job cost, from DescribeTrainingJob's answer."""
    resources = description["ResourceConfig"]
    seconds = description.get("BillableTimeInSeconds", 0) * resources["InstanceCount"]
    return _cost(resources["InstanceType"], region, seconds, prices)


def spot_saving(description: Mapping[str, Any]) -> float | None:
    """Return the share of the time that spot capacity left unbilled; None for a job without spot or not yet run.

    >>> spot_saving({"EnableManagedSpotTraining": True, "TrainingTimeInSeconds": 100, "BillableTimeInSeconds": 30})
    0.7
    """
    trained = description.get("TrainingTimeInSeconds", 0)
    if not description.get("EnableManagedSpotTraining") or not trained:
        return None
    return 1 - float(description.get("BillableTimeInSeconds", trained)) / float(trained)


def over_budget(spec: JobSpec, max_usd: float | None, prices: Prices) -> list[str]:
    """Return the refusal of a job that could cost more than ``max_usd``, or whose price is unknown; else nothing."""
    cost = ceiling(spec, prices)
    if max_usd is None or (cost.usd is not None and cost.usd <= max_usd):
        return []
    if cost.usd is None:
        return [f"launch.max_usd: {max_usd:g} cannot be kept: {cost}"]
    seconds = int(spec.max_run * max_usd / cost.usd)
    return [
        f"launch.max_usd: the job could cost ${cost.usd:.2f} ({cost.hours:g} instance hours), more than "
        f"${max_usd:g}: set launch.max_run={seconds}, a smaller launch.instance_type, or a higher launch.max_usd"
    ]


def _cost(instance_type: str, region: str, seconds: float, prices: Prices) -> Cost:
    price = prices.get(region, {}).get(instance_type)
    hours = seconds / 3600
    return Cost(instance_type=instance_type, region=region, hours=hours, usd=None if price is None else hours * price)


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
