"""What a job can cost at most, and what it did cost: by a price table, never by asking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from tabstep.errors import UserError
from tabstep.launch.request.aws_facts import read_table, table
from tabstep.launch.request.job_spec import JobSpec
from tabstep.launch.request.overlay import instances, rule_instances

Prices = Mapping[str, Mapping[str, float]]
NO_PRICES: Prices = {}
DATE: Final = "date"
"""Key of a file of prices that is no region: when they were taken."""

_SIZE: Final = "launch.instance_type"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Instance hours, and dollars where the price is known."""

    instance_type: str
    region: str
    hours: float  # of all instances together, those of the warm pool among them
    usd: float | None
    besides: tuple[str, ...] = ()  # fields of the request that rent other instances

    def __str__(self) -> str:
        """Hours and dollars, or that the price is not known."""
        hours = f"{self.hours:.2f} instance hours of {self.instance_type}"
        if self.besides:
            return f"{hours}, and for rules what {' and '.join(self.besides)} costs, which is not known"
        if self.usd is None:
            return (
                f"{hours}; its price in {self.region} is unknown: add it to a file, by hand or with "
                "`python -m tabstep.launch.request.price_list` from AWS's own list, and set launch.prices"
            )
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
    given = {region: group for region, group in own.items() if region != DATE}
    for region, group in given.items():
        if not isinstance(group, dict) or not all(_is_price(usd) for usd in group.values()):
            raise UserError(f"launch.prices: {file}: {region}: expected instance types with dollars an hour")
    builtin = {region: group for region, group in table("prices").items() if region != DATE}
    return {region: {**builtin.get(region, {}), **given.get(region, {})} for region in {**builtin, **given}}


def ceiling(spec: JobSpec, prices: Prices) -> Cost:
    """Return the most that the instances of a job can cost.

    Spot is billed at most as if it were on demand. A warm pool waits for a next job that may never come. Instances that
    ``launch.request`` rents for rules are not of the job, and have prices of their own: then none is known.
    """
    seconds = spec.max_run + (spec.keep_alive or 0)
    alternatives = instances(spec.request) or [[(spec.instance_type, spec.instance_count)]]
    costs = [_together([(kind, n * seconds) for kind, n in group], spec.region, prices) for group in alternatives]
    most = max(costs, key=lambda cost: math.inf if cost.usd is None else cost.usd)
    besides = rule_instances(spec.request)
    return replace(most, usd=None, besides=tuple(besides)) if besides else most


def billed(description: Mapping[str, Any], region: str, prices: Prices) -> Cost:
    """Return what a finished job cost, from DescribeTrainingJob's answer, its warm pool so far with it."""
    resources = description["ResourceConfig"]
    kept = description.get("WarmPoolStatus", {}).get("ResourceRetainedBillableTimeInSeconds", 0)
    seconds = description.get("BillableTimeInSeconds", 0) + kept
    groups = resources.get("InstanceGroups") or [resources]
    return _together([(group["InstanceType"], group["InstanceCount"] * seconds) for group in groups], region, prices)


def spot_saving(description: Mapping[str, Any]) -> float | None:
    """Return the share of the time that spot capacity left unbilled; None for a job without spot or not yet run.

    >>> spot_saving({"EnableManagedSpotTraining": True, "TrainingTimeInSeconds": 100, "BillableTimeInSeconds": 30})
    0.7
    """
    trained = description.get("TrainingTimeInSeconds", 0)
    if not description.get("EnableManagedSpotTraining") or not trained:
        return None
    return 1 - float(description.get("BillableTimeInSeconds", trained)) / float(trained)


def over_budget(
    spec: JobSpec, cost: Cost, budgets: Mapping[str, float | None], *, jobs: str = "the job", size: str = _SIZE
) -> Iterator[str]:
    """Yield the refusal of each budget that could be exceeded, or cannot be kept since a price is unknown.

    Args:
        spec: of one job.
        cost: the most that all can cost.
        budgets: dollars by key; None is no limit.
        jobs: what they are, in a sentence.
        size: the key that makes it cheaper without making it shorter.
    """
    for key, most in budgets.items():
        if most is not None and cost.usd is None:
            yield f"{key}: {most:g} cannot be kept: {cost}"
        elif most is not None and cost.usd is not None and cost.usd > most:
            yield (
                f"{key}: {jobs} could cost ${cost.usd:.2f} ({cost.hours:g} instance hours{_pool(spec)}), more than "
                f"${most:g}: set {_affordable(spec, most / cost.usd)}, a smaller {size}, or a higher {key}"
            )


def _affordable(spec: JobSpec, share: float) -> str:
    """Return the override that brings a job down to a share of its ceiling."""
    kept = spec.keep_alive or 0
    seconds = int((spec.max_run + kept) * share) - kept
    return f"launch.max_run={seconds}" if seconds > 0 else "launch.keep_alive=null"


def _pool(spec: JobSpec) -> str:
    kept = spec.instance_count * (spec.keep_alive or 0) / 3600
    return f", {kept:g} of them in the warm pool of launch.keep_alive" if kept else ""


def _together(groups: Sequence[tuple[str, float]], region: str, prices: Prices) -> Cost:
    """Return the cost of instances by type and seconds of all of them."""
    known = prices.get(region, {})
    usd = sum(known.get(kind, math.nan) * seconds / 3600 for kind, seconds in groups)
    return Cost(
        instance_type=" and ".join(kind for kind, _ in groups),
        region=region,
        hours=sum(seconds for _, seconds in groups) / 3600,
        usd=None if math.isnan(usd) else usd,
    )


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
