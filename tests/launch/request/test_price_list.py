from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tabstep.errors import UserError
from tabstep.launch.request import cost
from tabstep.launch.request.price_list import main, training_prices


def product(sku: str, usage: str, region: str) -> dict[str, Any]:
    attributes = {
        "servicecode": "AmazonSageMaker",
        "usagetype": usage,
        "regionCode": region,
        "operation": "RunInstance",
    }
    return {"sku": sku, "productFamily": "ML Instance", "attributes": attributes}


def term(sku: str, usd: str, currency: str = "USD", unit: str = "Hrs") -> dict[str, Any]:
    dimension = {"unit": unit, "beginRange": "0", "endRange": "Inf", "pricePerUnit": {currency: usd}}
    return {f"{sku}.JRTCKXETXF": {"sku": sku, "priceDimensions": {f"{sku}.JRTCKXETXF.6YS6EN2CT7": dimension}}}


def offer(date: str = "2026-11-20T16:00:00Z") -> dict[str, Any]:
    """A price list with made-up prices, of the form of the bulk offer file."""
    usages = {
        "A": ("USE1-Train:ml.m5.xlarge", "us-east-1", term("A", "0.2500000000")),
        "B": ("EU-Train:ml.p4d.24xlarge", "eu-west-1", term("B", "40.5")),
        "C": ("EUC1-Train:ml.m5.xlarge", "eu-central-1", term("C", "0.3")),
        "D": ("USE1-TrainWarmPool:ml.m5.xlarge", "us-east-1", term("D", "9")),
        "E": ("USE1-Host:ml.m5.xlarge", "us-east-1", term("E", "9")),
        "F": ("USE1-Train:VolumeUsage.gp2", "us-east-1", term("F", "9", unit="GB-Mo")),
        "G": ("CNN1-Train:ml.m5.xlarge", "cn-north-1", term("G", "2", currency="CNY")),
        "H": ("USE1-Train:ml.c5.xlarge", "us-east-1", {}),
    }
    return {
        "formatVersion": "v1.0",
        "offerCode": "AmazonSageMaker",
        "publicationDate": date,
        "products": {sku: product(sku, usage, region) for sku, (usage, region, _) in usages.items()},
        "terms": {"OnDemand": {sku: terms for sku, (_, _, terms) in usages.items() if terms}},
    }


def test_hours_of_training_in_dollars_alone() -> None:
    assert training_prices(offer()) == {
        "us-east-1": {"ml.m5.xlarge": 0.25},
        "eu-west-1": {"ml.p4d.24xlarge": 40.5},
        "eu-central-1": {"ml.m5.xlarge": 0.3},
    }


def test_the_file_is_one_of_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, prices = tmp_path / "index.json", tmp_path / "prices.yaml"
    source.write_text(json.dumps(offer()))
    assert main([str(source)]) == 0
    prices.write_text(capsys.readouterr().out)
    assert "date: 2026-11-20\n" in prices.read_text()
    found = cost.load_prices(str(prices))
    assert found["eu-central-1"] == {"ml.m5.xlarge": 0.3}
    assert (found["us-east-1"]["ml.m5.xlarge"], found["us-east-1"]["ml.g5.12xlarge"]) == (0.25, 7.09)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "cannot be read"),
        ("[]", "expected an object, got list"),
        ('{"offerCode": "AmazonEC2", "products": {}}', "expected an offer file of AmazonSageMaker"),
        ('{"offerCode": "AmazonSageMaker", "products": {}}', "has no price in dollars of an hour of training"),
    ],
)
def test_what_is_no_price_list_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, line: str
) -> None:
    (tmp_path / "index.json").write_text(content)
    assert main([str(tmp_path / "index.json")]) == 2
    assert line in capsys.readouterr().err
    assert main([]) == 2
    assert "name the offer file" in capsys.readouterr().err


def test_an_offer_of_no_service() -> None:
    with pytest.raises(UserError, match="AmazonSageMaker"):
        training_prices({})
