from __future__ import annotations

import pytest

from tabstep.errors import UserError
from tabstep.sweep.distributions import Numbers, Values, ends, enumerate_values
from tabstep.sweep.space import parse_space

DIMENSIONS = [
    (Values(("a", "b")), "choice(a,b)", ("a", "b")),
    (Numbers(low=1, high=3, step=1, integer=True), "int(interval(1,3))", ("1", "2", "3")),
    (Numbers(low=2, high=8, step=3, integer=True), "range(2,9,3)", ("2", "5", "8")),
    (Numbers(low=0.1, high=0.3, step=0.1), "range(0.1,0.35,0.1)", ("0.1", "0.2", "0.3")),
    (Numbers(low=1e-4, high=1e-2, log=True), "tag(log,interval(0.0001,0.01))", None),
]


@pytest.mark.parametrize(("dimension", "text", "values"), DIMENSIONS, ids=lambda value: str(value))
def test_texts_values_and_ends(dimension: Values | Numbers, text: str, values: tuple[str, ...] | None) -> None:
    assert str(dimension) == text
    assert parse_space([f"key={text}"]).dimensions == {"key": dimension}
    if values is None:
        with pytest.raises(UserError, match=r"key: tag.* has no end of values"):
            enumerate_values("key", dimension)
        assert ends(dimension) == ("0.0001", "0.01")
    else:
        assert enumerate_values("key", dimension) == values
        assert {*ends(dimension)} == {values[0], values[-1]}


def test_a_drawn_number_is_written_with_six_digits_within_its_bounds() -> None:
    numbers = Numbers(low=1e-4, high=1e-2, log=True)
    assert numbers.text(0.00034599600269489693) == "0.000345996"
    assert numbers.text(0.010000001) == "0.01"
    assert Numbers(low=0.0, high=1.0, step=0.25).text(0.6) == "0.5"
