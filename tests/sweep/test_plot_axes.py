from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.sweep.ledger import Trial
from tabstep.sweep.plot_axes import Axis, axis_of, shorten
from tabstep.sweep.space import Numbers, Values


def trials(*texts: str) -> list[Trial]:
    return [
        Trial(number=index, state="complete", params={"key": text}, overrides=(), directory=str(index), values=(0.5,))
        for index, text in enumerate(texts)
    ]


@given(st.lists(st.floats(1e-9, 1e9), min_size=2, unique=True), st.booleans())
def test_heights_keep_order_and_reach_both_ends(values: list[float], log: bool) -> None:
    heights = Axis(key="key", positions=values, log=log).heights()
    assert (min(heights), max(heights)) == (0.0, 1.0)
    assert sorted(range(len(values)), key=lambda index: (heights[index], values[index])) == sorted(
        range(len(values)), key=values.__getitem__
    )


def test_a_log_axis_has_equal_steps_for_equal_ratios() -> None:
    axis = axis_of("key", Numbers(low=1e-5, high=1e-1, log=True), trials("1e-05", "1e-03", "0.1"))
    assert axis.heights() == pytest.approx([0.0, 0.5, 1.0])
    assert [text for _, text in axis.ticks()] == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]


def test_ticks_of_numbers_stand_where_their_values_are() -> None:
    axis = Axis(key="key", positions=(2.0, 10.0))
    assert axis.ticks() == [(0.0, "2"), (0.25, "4"), (0.5, "6"), (0.75, "8"), (1.0, "10")]
    assert Axis(key="key", positions=(3.0, 3.0)).ticks() == [(0.5, "3")]
    assert Axis(key="key", positions=(3.0, 3.0)).heights() == [0.5, 0.5]


def test_names_keep_the_order_of_the_space_and_numbers_are_sorted() -> None:
    axis = axis_of("key", Values(("resnet", "mlp")), trials("mlp", "resnet", "mlp"))
    assert (axis.labels, axis.heights()) == (("resnet", "mlp"), [1.0, 0.0, 1.0])
    axis = axis_of("key", Values(("1e-2", "1e-4", "0.001")), trials("1e-2", "1e-4", "0.001"))
    assert (axis.labels, axis.heights()) == (("0.0001", "0.001", "0.01"), [1.0, 0.0, 0.5])


def test_a_value_outside_of_the_space_and_hostile_names_are_shown() -> None:
    axis = axis_of("key", Values(("a",)), trials("a", "'b\x1b'", "c" * 99))
    assert axis.labels[:2] == ("a", "b\N{REPLACEMENT CHARACTER}")
    assert [len(label) for label in axis.shown_labels().values()] == [1, 2, 16]


def test_many_names_leave_room() -> None:
    texts = [f"v{index}" for index in range(100)]
    axis = axis_of("key", Values(tuple(texts)), trials(*texts))
    assert len(axis.shown_labels()) <= 12
    assert all(axis.labels[index] == label for index, label in axis.shown_labels().items())
    assert all(math.isclose(height, index / 99) for index, height in enumerate(axis.heights()))


@given(st.text(), st.integers(3, 40))
def test_a_short_name_begins_and_ends_as_the_long_one(text: str, length: int) -> None:
    short = shorten(text, length)
    assert len(short) == min(len(text), length)
    if len(text) > length:
        start, end = short.split("…", 1) if "…" not in text else (short[: length // 2], short[length // 2 + 1 :])
        assert text.startswith(start)
        assert text.endswith(end)
