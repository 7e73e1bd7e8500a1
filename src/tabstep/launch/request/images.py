"""Which image a job runs in: AWS's own by torch version, processor and region, from a table of ours."""

from __future__ import annotations

import datetime
import re
from typing import Any, Literal

from tabstep.errors import UserError, nearest
from tabstep.launch.request.aws_facts import table

Processor = Literal["cpu", "gpu"]
_AWS_TAG = re.compile(  # an own registry may hold a copy
    r"/pytorch(?P<kind>-training|-inference)?:(?P<torch>\d+\.\d+)(?:\.\d+)?-(?:cpu|gpu|cu\d+)-"
)
_REGISTRY = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.\S+?/.+")


def image_uri(torch: str, processor: Processor, region: str) -> str:
    """Return the address of AWS's training image.

    Raises:
        UserError: the table has no such torch or no such region, or the one is not in the other.

    >>> image_uri("2.13", "cpu", "eu-west-1")
    '763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch:2.13-cpu-amzn2023-sagemaker'
    """
    images = table("images")
    tags = images["torch"].get(torch)
    if tags is None:
        raise UserError(
            f"launch.torch: there is no image of torch {torch!r} in the table: {nearest(torch, images['torch'])}; for "
            "an older one set launch.framework_version and launch.py_version, for any other launch.image_uri"
        )
    if region.startswith(tuple(tags.get("not_in", ()))):
        others = [
            other for other, row in images["torch"].items() if not region.startswith(tuple(row.get("not_in", ())))
        ]
        raise UserError(
            f"launch.torch: AWS has no image of torch {torch} in {region}: set launch.torch={others[-1]}, or "
            "launch.image_uri to one in its registry"
        )
    return f"{_registry(region)}/{images['repository']}:{tags[processor]}"


def serving_uri(processor: Processor, region: str) -> str:
    """Return the address of the newest AWS image that has an inference server.

    Raises:
        UserError: the table has no such region.
    """
    serving = table("images")["serving"]
    return f"{_registry(region)}/{serving['repository']}:{serving[processor]}"


def regions() -> list[str]:
    """Return the regions of AWS, those without its images among them."""
    return [region for group in table("images")["regions"].values() for region in group]


def end_of_patch(uri: str | None, framework_version: str | None) -> datetime.date | None:
    """Return the day after which AWS no longer patches an image of its own; None for what the table does not know.

    >>> end_of_patch(image_uri("2.13", "gpu", "us-east-1"), None)
    datetime.date(2027, 7, 20)
    >>> end_of_patch(None, "2.6.0")
    datetime.date(2026, 8, 6)
    """
    serving = table("images")["serving"]
    if uri is not None and uri.endswith(tuple(f"/{serving['repository']}:{serving[kind]}" for kind in ("cpu", "gpu"))):
        return _date(serving)
    named = _AWS_TAG.search(uri) if uri is not None else re.match(r"(?P<torch>\d+\.\d+)", framework_version or "")
    if named is None:
        return None
    images = table("images")
    if uri is not None and named["kind"] == "-inference" and named["torch"] == images["pytorch_inference"]["torch"]:
        return _date(images["pytorch_inference"])
    if named["torch"] in images["torch"]:
        return _date(images["torch"][named["torch"]])
    old = [tuple(map(int, text.split("."))) for text in (named["torch"], images["older"]["torch"])]
    return _date(images["older"]) if old[0] <= old[1] else None


def is_aws_image(uri: str) -> bool:
    """Tell whether an image is one of AWS's own, by the account that it lies in.

    >>> is_aws_image(image_uri("2.13", "cpu", "eu-west-1"))
    True
    >>> is_aws_image("123456789012.dkr.ecr.eu-west-1.amazonaws.com/pytorch-mine:1")
    False
    """
    registry = _REGISTRY.fullmatch(uri)
    return registry is not None and registry["account"] in _accounts().values()


def region_of(uri: str) -> str | None:
    """Return the region of the registry that an image lies in; None for an address of no such registry.

    >>> region_of("123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1")
    'eu-west-1'
    """
    registry = _REGISTRY.fullmatch(uri)
    return None if registry is None else registry["region"]


def _registry(region: str) -> str:
    suffix = next((suffix for suffix, group in table("images")["regions"].items() if region in group), None)
    if suffix is None:
        raise UserError(f"launch.region: no such region: {region!r}: {nearest(region, regions())}")
    account = _accounts().get(region)
    if account is None:
        raise UserError(
            f"launch.region: AWS's images have no known place in {region}: set launch.image_uri to one in a registry "
            "there"
        )
    return f"{account}.dkr.ecr.{region}.{suffix}"


def _accounts() -> dict[str, str]:
    """Return the account of AWS's images by region."""
    images = table("images")
    groups = (*images["accounts"].items(), *images["more_accounts"].items())
    return {region: account for account, group in groups for region in group}


def _date(row: dict[str, Any]) -> datetime.date:
    date = row["end_of_patch"]
    assert isinstance(date, datetime.date)
    return date
