from __future__ import annotations

import datetime
import importlib.resources
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.launch.jobs import remote_of, settings_of, spec_of

from tabstep.errors import UserError
from tabstep.launch.request import spec_problems
from tabstep.launch.request.aws_facts import table
from tabstep.launch.request.images import end_of_patch, image_uri, regions, serving_uri

ROOT = Path(__file__).resolve().parents[3]


def test_default_image_of_each_processor() -> None:
    base = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.13-"
    assert image_uri("2.13", "gpu", "us-east-1") == f"{base}cu133-amzn2023-sagemaker"
    assert image_uri("2.13", "cpu", "us-east-1") == f"{base}cpu-amzn2023-sagemaker"


def test_china_has_its_own_domain() -> None:
    assert image_uri("2.13", "cpu", "cn-north-1").startswith(
        "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch:"
    )


def test_unknown_torch_and_region() -> None:
    with pytest.raises(UserError, match=r"launch\.torch: there is no image of torch '2\.31' .*did you mean '2\.1"):
        image_uri("2.31", "cpu", "us-east-1")
    with pytest.raises(UserError, match=r"launch\.region: no such region: 'eu-west-11': did you mean 'eu-west-1'"):
        image_uri("2.13", "cpu", "eu-west-11")


@pytest.mark.parametrize(
    ("uri", "version", "date"),
    [
        (image_uri("2.11", "cpu", "eu-west-1"), None, datetime.date(2027, 4, 30)),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pytorch-training:2.6.0-gpu-py312",
            None,
            datetime.date(2026, 8, 6),
        ),
        (
            "763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-inference:2.6.0-gpu-py312-cu124-ubuntu22.04-sagemaker",
            None,
            datetime.date(2026, 6, 30),
        ),
        (serving_uri("gpu", "eu-west-1"), None, datetime.date(2027, 7, 20)),
        (None, "2.8.0", datetime.date(2026, 8, 6)),
        (None, "1.13", datetime.date(2026, 8, 6)),
        (None, "2.13.0", datetime.date(2027, 7, 20)),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1", None, None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/pytorch:2.4", None, None),
        (None, "9.9", None),
        (None, None, None),
    ],
)
def test_end_of_patch(uri: str | None, version: str | None, date: datetime.date | None) -> None:
    assert end_of_patch(uri, version) == date


def test_accounts_are_those_of_the_sdk() -> None:
    """The SDK's table is the oracle; it was where ours came from, and regions are added to both."""
    pytest.importorskip("sagemaker")
    file = importlib.resources.files("sagemaker") / "image_uri_config" / "pytorch.json"
    versions = json.loads(file.read_text())["training"]["versions"]
    theirs = versions["2.8.0"]["registries"]
    ours = {region: account for account, group in table("images")["accounts"].items() for region in group}
    assert ours == theirs
    assert len(regions()) == len(set(regions()))
    assert set(theirs) <= set(regions())
    assert not {region for group in table("images")["more_accounts"].values() for region in group} & set(theirs)


def test_the_tables_are_those_of_the_installed_versions(tmp_path: Path) -> None:
    pytest.importorskip("sagemaker")
    script = [sys.executable, str(ROOT / "scripts" / "aws_tables.py")]
    assert subprocess.run([*script, "--check"], check=False).returncode == 0
    source = ROOT / "src/tabstep/launch/request/images.yaml"
    stale = tmp_path / "images.yaml"
    stale.write_text(source.read_text().replace("eu-west-1, ", "").replace('"626614931356": [af-south-1]', ""))
    assert subprocess.run([*script, "--check", str(stale)], check=False, capture_output=True).returncode == 1
    assert subprocess.run([*script, str(stale)], check=False).returncode == 0
    assert stale.read_text() == source.read_text()


def test_regions_that_the_sdk_lacks() -> None:
    assert image_uri("2.14", "gpu", "me-west-1").startswith(
        "124382933778.dkr.ecr.me-west-1.amazonaws.com/pytorch:2.14-"
    )
    with pytest.raises(UserError, match=r"no known place in eusc-de-east-1: set launch\.image_uri"):
        image_uri("2.13", "cpu", "eusc-de-east-1")
    settings = settings_of(
        region="eusc-de-east-1", image_uri="123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu/mine:1",
        role="arn:aws-eusc:iam::123456789012:role/job", instance_type="ml.m5.xlarge",
    )  # fmt: skip
    assert spec_problems.problems(spec_of(settings), remote_of(settings), settings.trainer) == []


@pytest.mark.parametrize("region", ["cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1"])
def test_the_newest_torch_is_not_everywhere(region: str) -> None:
    assert "/pytorch:2.13-" in image_uri("2.13", "cpu", region)
    with pytest.raises(UserError, match=rf"no image of torch 2\.14 in {region}: set launch\.torch=2\.13"):
        image_uri("2.14", "cpu", region)


def test_the_serving_image_is_patched_and_aws_own() -> None:
    for kind in ("cpu", "gpu"):
        uri = serving_uri(kind, "eu-west-1")
        assert uri.startswith("763104351884.dkr.ecr.eu-west-1.amazonaws.com/autogluon:")
        date = end_of_patch(uri, None)
        assert date is not None
        assert date > end_of_patch(None, "2.12"), "later than the images of an older torch"  # type: ignore[operator]
