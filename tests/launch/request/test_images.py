from __future__ import annotations

import datetime
import importlib.resources
import json

import pytest

from tabstep.errors import UserError
from tabstep.launch.request.aws_facts import table
from tabstep.launch.request.images import end_of_patch, image_uri, regions, serving_uri


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
    with pytest.raises(
        UserError, match=r"launch\.region: no image account is known for 'eu-west-11': did you mean 'eu-west-1'"
    ):
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
        (serving_uri("gpu", "eu-west-1"), None, datetime.date(2026, 6, 30)),
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


def test_serving_image_is_the_sdks_newest() -> None:
    pytest.importorskip("sagemaker")
    from tabstep.launch.request import sdk

    sdk.sagemaker()
    with sdk.quiet():
        from sagemaker import image_uris

        theirs = image_uris.retrieve(
            "pytorch",
            "eu-west-1",
            version="2.6.0",
            py_version="py312",
            instance_type="ml.m5.large",
            image_scope="inference",
        )
    ours = serving_uri("cpu", "eu-west-1")
    assert ours.split(":")[0] == theirs.split(":")[0]
    assert theirs.split(":")[1] in ours
