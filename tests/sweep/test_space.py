from __future__ import annotations

import math

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from tabstep.errors import UserError
from tabstep.sweep.distributions import Dimension, Numbers, Values, enumerate_values
from tabstep.sweep.space import combinations, count, parse_space

GRIDS = [
    ["a=1,2", "b=x", "c=y,z"],
    ["a=range(1,4)", "b=choice(true,false)", "c=null,1"],
    ["a=range(0.25,1,0.25)", "+b='x y',\"z\"", "a.b.c=[1,2],[3]"],
    ["a=range(5,0,-2)", "b={x:1},{x:2}"],
    ["a=1", "b=2"],
    ["a=1,2", "a=3", "a=4,5"],
    ["a=sort(3,1,2)", "b=range(3)"],
]


@pytest.mark.parametrize("overrides", GRIDS, ids=" ".join)
def test_grid_is_that_of_hydras_own_sweeper(overrides: list[str]) -> None:
    parsed = OverridesParser.create().parse_overrides(overrides)
    (expected,) = BasicSweeper.split_arguments(parsed, None)
    space = parse_space(overrides)
    found = [space.overrides(params) for params in combinations(space)]
    assert found == expected
    assert count(space) == len(expected)


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("choice(a,b)", Values(("a", "b"))),
        ("interval(1,2)", Numbers(low=1.0, high=2.0)),
        ("tag(log,interval(1e-4,1e-1))", Numbers(low=1e-4, high=1e-1, log=True)),
        ("int(interval(1,8))", Numbers(low=1, high=8, step=1, integer=True)),
        ("tag(log,int(interval(1,8)))", Numbers(low=1, high=8, step=1, integer=True, log=True)),
        ("range(1,8)", Numbers(low=1, high=7, step=1, integer=True)),
        ("range(16,65,16)", Numbers(low=16, high=64, step=16, integer=True)),
        ("range(0.1,0.45,0.1)", Numbers(low=0.1, high=0.4, step=0.1)),
        ("range(4,0,-1)", Values(("4", "3", "2", "1"))),
        ("range(1,2)", Values(("1",))),
    ],
)
def test_dimensions(text: str, dimension: Dimension) -> None:
    space = parse_space([f"x={text}"])
    assert space.dimensions == {"x": dimension}
    assert parse_space([f"x={dimension}"]).dimensions == {"x": dimension}


numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(low=numbers, width=st.floats(0.01, 1e6).map(lambda value: round(value, 2)), share=st.floats(0, 1))
def test_text_of_a_number_stays_inside(low: float, width: float, share: float) -> None:
    dimension = Numbers(low=low, high=low + width)
    text = dimension.text(low + share * width)
    assert low <= float(text) <= low + width
    assert dimension.text(float(text)) == text
    assert math.isclose(float(text), low + share * width, rel_tol=1e-5, abs_tol=1e-5 * abs(low))


@given(low=st.integers(-50, 50), steps=st.integers(1, 30), step=st.sampled_from([0.1, 0.25, 0.05, 2.0]))
def test_values_of_a_range_round_trip(low: int, steps: int, step: float) -> None:
    dimension = Numbers(low=float(low), high=round(low + steps * step, 6), step=step)
    texts = enumerate_values("x", dimension)
    assert len(texts) == steps + 1
    assert [dimension.text(float(text)) for text in texts] == list(texts)
    assert all(len(text) < 9 for text in texts)
    assert parse_space([f"x={dimension}"]).dimensions["x"] == dimension


def test_later_override_of_a_key_replaces_the_earlier_one() -> None:
    space = parse_space(["x=interval(1,2)", "y=1", "x=3"])
    assert (dict(space.dimensions), space.overrides({})) == ({}, ["x=3", "y=1"])


def test_shuffle_is_the_same_again() -> None:
    first, again = (parse_space(["x=shuffle(range(20))"], seed=3).dimensions["x"] for _ in range(2))
    assert isinstance(first, Values)
    assert first == again
    assert sorted(map(int, first.texts)) == list(range(20))
    assert first.texts != tuple(map(str, range(20)))
    assert parse_space(["x=shuffle(range(20))"], seed=4).dimensions["x"] != first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x=range(3,3)", "range(3,3,1) is empty"),
        ("x=interval(2,2)", "is empty: its first number must be the smaller one"),
        ("x=tag(log,interval(-1,2))", "must begin above 0"),
        ("x=tag(log,range(0,9,2))", "needs whole numbers above 0"),
        ("x=tag(log,choice(1,2))", "is for an interval or a range"),
        ("x=tag(quick,interval(1,2))", "no such tag, 'quick': choose from: log"),
        ("x=1,1", "a value stands twice"),
        ("x=interval(", "cannot be read"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    with pytest.raises(UserError, match="x") as error:
        parse_space([text])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_interval_has_no_grid() -> None:
    space = parse_space(["x=interval(1,2)"])
    with pytest.raises(UserError, match="no end of values"):
        list(combinations(space))
