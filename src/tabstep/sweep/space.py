"""The search space: Hydra's sweep grammar parsed into distributions, and values turned back into overrides."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
    Transformer,
)
from hydra.errors import HydraException

from tabstep.errors import UserError, nearest
from tabstep.sweep.distributions import Dimension, Numbers, Values, enumerate_values

TAGS = ("log",)


@dataclass(frozen=True)
class Space:
    """The overrides of a sweep: those that all trials share, and the dimensions by key, in the order given."""

    shared: Mapping[str, str]  # key: the whole override
    dimensions: Mapping[str, Dimension]
    order: tuple[str, ...]

    def overrides(self, params: Mapping[str, str]) -> list[str]:
        """Return the overrides of the trial with these values.

        >>> parse_space(["seed=3", "model=mlp,resnet"]).overrides({"model": "resnet"})
        ['seed=3', 'model=resnet']
        """
        return [self.shared[key] if key in self.shared else f"{key}={params[key]}" for key in self.order]

    def texts(self) -> dict[str, str]:
        """Return each dimension in Hydra's grammar, by key."""
        return {key: str(dimension) for key, dimension in self.dimensions.items()}


def parse_space(overrides: Sequence[str], loader: ConfigLoader | None = None, *, seed: int = 0) -> Space:
    """Read the overrides of a sweep; a later one replaces an earlier one of the same key.

    Args:
        loader: Knows the options that a glob chooses from.
        seed: Of the order of ``shuffle(...)``, which is thus the same when a sweep goes on.

    Raises:
        UserError: a range is empty, or a tag unknown.
    """
    shared: dict[str, str] = {}
    dimensions: dict[str, Dimension] = {}
    order: list[str] = []
    parser = OverridesParser.create(loader)
    for text in overrides:
        override = _parse(parser, text)
        key = override.get_key_element()
        if key not in order:
            order.append(key)
        shared.pop(key, None)
        dimensions.pop(key, None)
        if override.is_sweep_override():
            dimensions[key] = _dimension(override, seed)
        else:
            shared[key] = text
    return Space(shared, {key: dimensions[key] for key in order if key in dimensions}, tuple(order))


def given(params: Mapping[str, Any]) -> list[str]:
    """Return ``hydra.sweeper.params`` as overrides.

    Raises:
        UserError: a value is not one in Hydra's grammar.
    """
    for key, value in params.items():
        if isinstance(value, list | dict):
            raise UserError(
                f"hydra.sweeper.params: {key}: expected text in Hydra's grammar, such as 'choice(1,2)', got {value!r}"
            )
    return [f"{key}={'null' if value is None else value}" for key, value in params.items()]


def _parse(parser: OverridesParser, text: str) -> Override:
    try:
        return parser.parse_overrides([text])[0]
    except HydraException as error:
        raise UserError(f"{text}: cannot be read: {str(error).partition(chr(10))[0]}") from error


def combinations(space: Space) -> Iterator[dict[str, str]]:
    """Return every combination of values, the last key changing fastest, as Hydra's own sweeper does.

    Raises:
        UserError: a dimension has no end of values.
    """
    columns = [enumerate_values(key, dimension) for key, dimension in space.dimensions.items()]
    for row in itertools.product(*columns):
        yield dict(zip(space.dimensions, row, strict=True))


def count(space: Space) -> int:
    """Return the number of combinations."""
    return math.prod(len(enumerate_values(key, dimension)) for key, dimension in space.dimensions.items())


def _dimension(override: Override, seed: int) -> Dimension:
    value, key = override._value, override.key_or_group
    tags = sorted(value.tags) if isinstance(value, Sweep) else []
    for tag in tags:
        if tag not in TAGS:
            raise UserError(f"{key}: no such tag, {tag!r}: {nearest(tag, TAGS)}")
    if isinstance(value, IntervalSweep):
        return _interval(key, value, log="log" in tags)
    # numbers in their order: a sampler can learn along them, as it cannot along a list
    if isinstance(value, RangeSweep) and not value.shuffle and (numbers := _range(key, value, log="log" in tags)):
        return numbers
    if tags and not isinstance(value, RangeSweep):
        raise UserError(f"{override.input_line}: tag(log, ...) is for an interval or a range")
    return _choice(override, seed)


def _interval(key: str, value: IntervalSweep, *, log: bool) -> Numbers:
    low, high = value.start, value.end
    if low is None or high is None or not low < high:
        raise UserError(f"{key}: interval({low},{high}) is empty: its first number must be the smaller one")
    if log and low <= 0:
        raise UserError(f"{key}: tag(log, interval({low},{high})) must begin above 0")
    integer = isinstance(low, int) and isinstance(high, int)
    return Numbers(low=low, high=high, step=1 if integer else None, log=log, integer=integer)


def _range(key: str, value: RangeSweep, *, log: bool) -> Numbers | None:
    """Return an ascending range as numbers with a step; None for one that is a list of values rather."""
    numbers = list(value.range())
    if not numbers:
        raise UserError(f"{key}: range({value.start},{value.stop},{value.step}) is empty")
    if len(numbers) < 2 or value.step < 0:
        return None
    integer = all(isinstance(number, int) for number in numbers)
    if log and not (integer and value.step == 1 and numbers[0] > 0):
        raise UserError(f"{key}: tag(log, range(...)) needs whole numbers above 0 in steps of 1")
    found = Numbers(low=numbers[0], high=numbers[-1], step=value.step, log=log, integer=integer)
    return found if integer else replace(found, high=float(found.text(found.high)))  # without the dust of sums


def _choice(override: Override, seed: int) -> Values:
    value = override._value
    key = override.key_or_group
    shuffled = isinstance(value, ChoiceSweep | RangeSweep) and value.shuffle
    if isinstance(value, ChoiceSweep):
        texts = [Transformer.str(each) for each in value.list]
    elif isinstance(value, RangeSweep):
        texts = [Transformer.str(each) for each in value.range()]
    else:
        try:
            texts = list(override.sweep_string_iterator())
        except HydraException as error:
            raise UserError(f"{override.input_line}: {error}") from error
    if not texts:
        raise UserError(f"{override.input_line}: {key} has no option that fits")
    if len(set(texts)) < len(texts):
        raise UserError(f"{override.input_line}: a value stands twice")
    if shuffled:
        # a text: its hash is the same in every process
        random.Random(f"{seed} {key}").shuffle(texts)
    return Values(tuple(texts))
