from __future__ import annotations

from pathlib import Path

import pytest
from tests.launch.jobs import settings_of, spec_of

from tabstep.errors import UserError
from tabstep.launch.request import cost
from tabstep.launch.request.job_spec import JobSpec
from tabstep.launch.request.service_model import instance_types

PRICES = {"eu-west-1": {"ml.g5.12xlarge": 8.0}}


def over_budget(spec: JobSpec, most: float | None, prices: cost.Prices) -> list[str]:
    return list(cost.over_budget(spec, cost.ceiling(spec, prices), {"launch.max_usd": most}))


def test_ceiling_is_hours_times_price() -> None:
    spec = spec_of(settings_of(instance_count=3, max_run=1800))
    assert cost.ceiling(spec, PRICES) == cost.Cost(
        instance_type="ml.g5.12xlarge", region="eu-west-1", hours=1.5, usd=12.0
    )
    assert str(cost.ceiling(spec, PRICES)) == "1.50 instance hours of ml.g5.12xlarge, $12.00"


def test_unknown_price_says_so() -> None:
    text = str(cost.ceiling(spec_of(settings_of()), {}))
    assert text.startswith("24.00 instance hours of ml.g5.12xlarge; its price in eu-west-1 is unknown: ")
    assert "`python -m tabstep.launch.request.price_list`" in text
    assert text.endswith("and set launch.prices")


def test_refusal_above_the_budget() -> None:
    spec = spec_of(settings_of(max_run=7200))
    assert over_budget(spec, None, {}) == []
    assert over_budget(spec, 16, PRICES) == []
    [refusal] = over_budget(spec, 4, PRICES)
    assert refusal.startswith("launch.max_usd: the job could cost $16.00 (2 instance hours), more than $4: ")
    assert "set launch.max_run=1800," in refusal
    [refusal] = over_budget(spec, 4, {})
    assert refusal.startswith("launch.max_usd: 4 cannot be kept: 2.00 instance hours of ml.g5.12xlarge; its price in")


def test_the_warm_pool_is_part_of_the_ceiling() -> None:
    """It waits for a next job, and is paid for, whether there is one or not."""
    prices = {"eu-west-1": {"ml.m5.xlarge": 0.23}}
    spec = spec_of(settings_of(instance_type="ml.m5.xlarge", max_run=600, keep_alive=21600, instance_count=2))
    found = cost.ceiling(spec, prices)
    assert found.hours == pytest.approx(2 * 22200 / 3600)
    assert found.usd == pytest.approx(2 * 22200 / 3600 * 0.23)
    [refusal] = over_budget(spec, 0.05, prices)
    assert (
        "the job could cost $2.84 (12.3333 instance hours, 12 of them in the warm pool of launch.keep_alive)" in refusal
    )
    assert "set launch.keep_alive=null," in refusal
    [refusal] = over_budget(spec, 2.8, prices)
    seconds = int(refusal.partition("launch.max_run=")[2].partition(",")[0])
    assert 2 * (seconds + 21600) / 3600 * 0.23 == pytest.approx(2.8, abs=0.001)


def test_own_prices_win_over_the_built_in_ones(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("date: 2026-11-20\nus-east-1: {ml.g5.xlarge: 1}\neu-west-1: {ml.g5.xlarge: 2.5}\n")
    prices = cost.load_prices(str(file))
    assert (prices["us-east-1"]["ml.g5.xlarge"], prices["eu-west-1"]["ml.g5.xlarge"]) == (1, 2.5)
    assert prices["us-east-1"]["ml.g5.12xlarge"] == 7.09
    assert "date" not in prices


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("a: [", "cannot be read"),
        ("us-east-1: 3", "us-east-1: expected instance types with dollars an hour"),
        ("us-east-1: {ml.g5.xlarge: cheap}", "us-east-1: expected instance types"),
        ("us-east-1: {ml.g5.xlarge: -1}", "us-east-1: expected instance types"),
    ],
)
def test_a_file_of_prices_that_is_none(tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "prices.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=rf"^launch\.prices: .*{reason}"):
        cost.load_prices(str(file))


def test_built_in_prices_are_of_types_that_exist() -> None:
    pytest.importorskip("botocore")
    known = set(instance_types())
    assert all(set(group) <= known for group in cost.load_prices(None).values())


def test_billed_counts_each_instance() -> None:
    description = {
        "ResourceConfig": {"InstanceType": "ml.g5.12xlarge", "InstanceCount": 2},
        "BillableTimeInSeconds": 900,
        "TrainingTimeInSeconds": 3600,
        "EnableManagedSpotTraining": True,
    }
    bill = cost.billed(description, "eu-west-1", PRICES)
    assert (bill.hours, bill.usd) == (0.5, 4.0)
    pool = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 900}
    assert cost.billed({**description, "WarmPoolStatus": pool}, "eu-west-1", PRICES).usd == 8.0
    assert cost.spot_saving(description) == 0.75
    assert cost.spot_saving({**description, "EnableManagedSpotTraining": False}) is None
    assert cost.spot_saving({"EnableManagedSpotTraining": True}) is None


def test_an_instance_for_a_rule_is_in_no_ceiling() -> None:
    """It runs beside the job, at a price that the table does not have."""
    rule = {"RuleConfigurationName": "a", "RuleEvaluatorImage": "i", "InstanceType": "ml.p3.16xlarge"}
    spec = spec_of(settings_of(request={"ProfilerRuleConfigurations": [rule]}))
    assert cost.ceiling(spec, PRICES).usd is None
    [refusal] = over_budget(spec, 1000, PRICES)
    assert refusal == (
        "launch.max_usd: 1000 cannot be kept: 24.00 instance hours of ml.g5.12xlarge, and for rules what "
        "launch.request.ProfilerRuleConfigurations[0].InstanceType costs, which is not known"
    )
    free = {name: text for name, text in rule.items() if name != "InstanceType"}
    assert cost.ceiling(spec_of(settings_of(request={"DebugRuleConfigurations": [free]})), PRICES).usd == 192
