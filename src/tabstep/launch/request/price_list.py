"""AWS's public price list as a file for ``launch.prices``.

``python -m tabstep.launch.request.price_list INDEX.json > prices.yaml``, where ``INDEX.json`` is the bulk offer file of
AmazonSageMaker, of one region or of all. Nothing is fetched.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tabstep.errors import UserError
from tabstep.launch.request.cost import DATE

# ``USE1-Train:ml.m5.xlarge``; one for warm pools and one for debugging rules have other words in the place of Train.
_TRAINING = re.compile(r"(?:[A-Z0-9]+-)?Train:(ml\.[a-z0-9-]+\.[a-z0-9]+)")


def main(arguments: Sequence[str]) -> int:
    """Print the file for ``launch.prices``; return the exit code."""
    try:
        if len(arguments) != 1:
            raise UserError("name the offer file of AmazonSageMaker, such as index.json")
        offer = _read(arguments[0])
        prices = training_prices(offer)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    ordered = {region: dict(sorted(group.items())) for region, group in sorted(prices.items())}
    print("# Dollars of one instance for one hour of training, on demand, by region: AWS's price list of that date.")
    print(f"{DATE}: {str(offer.get('publicationDate', ''))[:10]}\n{yaml.safe_dump(ordered, sort_keys=False)}", end="")
    return 0


def training_prices(offer: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return dollars for an hour of training on demand, by region and instance type.

    Regions that are paid in another currency are left out.

    Raises:
        UserError: it is no offer file of AmazonSageMaker, or has no such price.
    """
    if offer.get("offerCode") != "AmazonSageMaker" or not isinstance(offer.get("products"), Mapping):
        raise UserError("expected an offer file of AmazonSageMaker, with `offerCode`, `products` and `terms`")
    terms = offer.get("terms", {}).get("OnDemand", {})
    prices: dict[str, dict[str, float]] = {}
    for sku, product in offer["products"].items():
        attributes = product.get("attributes", {})
        named = _TRAINING.fullmatch(attributes.get("usagetype", ""))
        hourly = list(_hourly(terms.get(sku, {})))
        if named is not None and hourly:
            prices.setdefault(attributes["regionCode"], {})[named[1]] = max(hourly)
    if not prices:
        raise UserError("the offer file has no price in dollars of an hour of training")
    return prices


def _hourly(terms: Mapping[str, Any]) -> Iterator[float]:
    for term in terms.values():
        for dimension in term.get("priceDimensions", {}).values():
            usd = dimension.get("pricePerUnit", {}).get("USD")
            if usd is not None and dimension.get("unit") in ("Hrs", "Hours", "hours"):
                yield float(usd)


def _read(file: str) -> Mapping[str, Any]:
    try:
        offer = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(offer, dict):
        raise UserError(f"{file}: expected an object, got {type(offer).__name__}")
    return offer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
