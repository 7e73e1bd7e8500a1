from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.errors import UserError
from tabstep.tables.column_types import fits, kind_of, to_float64, to_text, unify, value_kind, value_type

NAN = float("nan")
DAY = dt.date(2020, 1, 1)
NOON = dt.datetime(2020, 1, 1, 12)
NOON_SECONDS = 1_577_880_000.0

# array, its kind, its numbers, its texts
MEANINGS = [
    (pa.array([1, None], pa.uint64()), "numeric", [1.0, NAN], ["1", None]),
    (pa.array([-3, 3], pa.int8()), "numeric", [-3.0, 3.0], ["-3", "3"]),
    (pa.array(np.array([0.5, np.nan], np.float16)), "numeric", [0.5, NAN], ["0.5", None]),
    (pa.array(np.array([0.1, -0.0], np.float32)), "numeric", [float(np.float32(0.1)), 0.0], ["0.1", "0"]),
    (pa.array([3.0, np.inf, 1e15]), "numeric", [3.0, np.inf, 1e15], ["3", "inf", "1000000000000000"]),
    (pa.array([Decimal("3.00"), Decimal("2.50")]), "numeric", [3.0, 2.5], ["3", "2.5"]),
    (pa.array([Decimal("100")], pa.decimal256(50, 0)), "numeric", [100.0], ["100"]),
    (pa.array([DAY, None]), "numeric", [18262.0, NAN], ["2020-01-01", None]),
    (pa.array([DAY], pa.date64()), "numeric", [18262.0], ["2020-01-01"]),
    (pa.array([NOON], pa.timestamp("ns")), "numeric", [NOON_SECONDS], ["2020-01-01 12:00:00"]),
    (pa.array([NOON], pa.timestamp("ms", "Asia/Tokyo")), "numeric", [NOON_SECONDS], ["2020-01-01 12:00:00"]),
    (pa.array([dt.time(1, 0, 0, 500_000)]), "numeric", [3600.5], ["01:00:00.5"]),
    (pa.array([90], pa.time32("s")), "numeric", [90.0], ["00:01:30"]),
    (pa.array([dt.timedelta(hours=1)]), "numeric", [3600.0], ["3600"]),
    (pa.array([True, None]), "categorical", [1.0, NAN], ["true", None]),
    (pa.array([3, None]).dictionary_encode(), "categorical", [3.0, NAN], ["3", None]),
]
TEXTS = [
    pa.array(["a", None, ""]),
    pa.array(["a", None, ""], pa.large_string()),
    pa.array(["a", None, ""], pa.string_view()),
    pa.array(["a", None, ""]).dictionary_encode(),
    pc.run_end_encode(pa.array(["a", None, ""])),
]


@pytest.mark.parametrize(("array", "kind", "numbers", "texts"), MEANINGS, ids=lambda value: str(value)[:40])
def test_every_type_has_its_stated_meaning(
    array: pa.Array, kind: str, numbers: list[float], texts: list[str | None]
) -> None:
    assert kind_of(array.type) == kind
    np.testing.assert_array_equal(to_float64(array), numbers)
    assert to_float64(array).dtype == np.float64
    assert to_text(array).to_pylist() == texts
    assert to_text(array).type == pa.string()


@pytest.mark.parametrize("array", TEXTS, ids=lambda array: str(array.type))
def test_strings_are_categories_however_they_are_laid_out(array: pa.Array) -> None:
    assert kind_of(array.type) == "categorical"
    assert to_text(array).to_pylist() == ["a", None, ""]
    with pytest.raises(UserError, match="a number is due"):
        to_float64(array)


@pytest.mark.parametrize(
    ("dtype", "cause"),
    [
        (pa.list_(pa.int64()), "nested: flatten it"),
        (pa.struct({"x": pa.int64()}), "nested: flatten it"),
        (pa.map_(pa.string(), pa.int64()), "nested: flatten it"),
        (pa.binary(), "binary: write it as"),
        (pa.binary(16), "binary: write it as"),
        (pa.null(), "every value is null"),
        (pa.month_day_nano_interval(), "not supported: write it as"),
    ],
    ids=str,
)
def test_other_types_are_refused_with_a_remedy(dtype: pa.DataType, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as caught:
        kind_of(dtype)
    assert "schema.drop" in str(caught.value)


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1))
def test_equal_values_have_equal_text_whatever_their_width(values: list[int]) -> None:
    expected = [str(value) for value in values]
    assert to_text(pa.array(values, pa.int64())).to_pylist() == expected
    assert to_text(pa.array([float(value) for value in values])).to_pylist() == expected
    assert to_text(pa.array(values, pa.int64()).dictionary_encode()).to_pylist() == expected


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_the_text_of_a_float_reads_back_as_the_same_float(values: list[float]) -> None:
    assert [float(text) for text in to_text(pa.array(values, pa.float64())).to_pylist()] == values


def test_digits_above_2_to_the_53_stay_in_the_text() -> None:
    assert to_text(pa.array([2**53 + 1, None])).to_pylist() == ["9007199254740993", None]


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int64()),
        (pa.uint64(), pa.int8(), pa.float64()),
        (pa.uint8(), pa.uint32(), pa.uint32()),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.float16(), pa.float32(), pa.float32()),
        (pa.decimal128(9, 2), pa.decimal128(12, 2), pa.float64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.timestamp("s", "UTC"), pa.timestamp("s", "Asia/Tokyo"), pa.timestamp("s", "UTC")),
        (pa.date32(), pa.date64(), pa.date64()),
        (pa.time32("s"), pa.time64("us"), pa.time64("us")),
        (pa.duration("s"), pa.duration("ns"), pa.duration("ns")),
        (pa.int64(), pa.string(), None),
        (pa.bool_(), pa.int64(), None),
        (pa.date32(), pa.timestamp("s"), None),
        (pa.timestamp("s"), pa.timestamp("s", "UTC"), None),
    ],
    ids=str,
)
def test_unify_keeps_the_meaning_or_says_no(left: pa.DataType, right: pa.DataType, both: pa.DataType | None) -> None:
    assert unify(left, right) == both
    assert unify(right, left) == both
    assert fits(value_kind(left), right) == fits(value_kind(right), left) == (both is not None)


def test_value_type_unwraps_dictionaries_and_runs() -> None:
    assert value_type(pa.run_end_encoded(pa.int32(), pa.dictionary(pa.int8(), pa.string()))) == pa.string()
