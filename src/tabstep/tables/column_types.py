"""Parquet (Arrow) types: which make a number, which a category, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from tabstep.errors import UserError

Kind = Literal["numeric", "categorical"]
ValueKind = Literal[
    "text", "number", "boolean", "date", "timestamp", "zoned timestamp", "time", "duration", "nothing", "other"
]

PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_UNITS: Final = ("s", "ms", "us", "ns")  # coarse to fine
_MS_PER_DAY: Final = 86_400_000
_FLOAT64: Final = pa.float64()
_STRING: Final = pa.string()


def is_text(dtype: pa.DataType) -> bool:
    """Whether ``dtype`` holds character strings, however they are laid out."""
    return bool(types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype))


def is_number(dtype: pa.DataType) -> bool:
    """Whether ``dtype`` is an integer, a float of any width or a decimal."""
    return bool(types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype))


def _is_instant(dtype: pa.DataType) -> bool:
    return bool(types.is_date(dtype) or types.is_timestamp(dtype) or types.is_time(dtype) or types.is_duration(dtype))


def value_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type of the values, which a dictionary or run-end encoding wraps.

    >>> value_type(pa.dictionary(pa.int8(), pa.string()))
    DataType(string)
    """
    while types.is_dictionary(dtype) or types.is_run_end_encoded(dtype):
        dtype = dtype.value_type
    return dtype


def without_views(dtype: pa.DataType) -> pa.DataType:
    """Return the type as which a column is read: Arrow neither filters nor sorts views of strings.

    >>> without_views(pa.string_view())
    DataType(string)
    """
    if types.is_dictionary(dtype):
        return pa.dictionary(dtype.index_type, without_views(dtype.value_type), dtype.ordered)
    return pa.string() if types.is_string_view(dtype) else dtype


@lru_cache(maxsize=1_000)
def value_kind(dtype: pa.DataType) -> ValueKind:
    """Return what the values of a type are, whatever their width, unit and encoding.

    >>> value_kind(pa.dictionary(pa.int8(), pa.string())), value_kind(pa.int16()), value_kind(pa.date64())
    ('text', 'number', 'date')
    >>> value_kind(pa.timestamp("s")), value_kind(pa.timestamp("s", tz="UTC")), value_kind(pa.null())
    ('timestamp', 'zoned timestamp', 'nothing')
    """
    values = value_type(dtype)
    if types.is_timestamp(values) and values.tz is not None:
        return "zoned timestamp"
    return next((kind for kind, belongs in _BELONGS.items() if belongs(values)), "other")


_BELONGS: Final[dict[ValueKind, Callable[[pa.DataType], bool]]] = {
    "text": is_text,
    "number": is_number,
    "boolean": types.is_boolean,
    "date": types.is_date,
    "timestamp": types.is_timestamp,
    "time": types.is_time,
    "duration": types.is_duration,
    "nothing": types.is_null,
}


def fits(kind: ValueKind, dtype: pa.DataType) -> bool:
    """Tell whether a column of this type holds values of ``kind``: the contract of a column that stands twice.

    It holds between the files of a split, between splits, and between train and whatever is predicted: a date and a
    timestamp are both numbers, but not of the same thing. Nulls alone fit everything.

    >>> fits("number", pa.decimal128(5, 2)), fits("number", pa.bool_()), fits("date", pa.null())
    (True, False, True)
    """
    return "nothing" in (kind, found := value_kind(dtype)) or kind == found


def kind_of(dtype: pa.DataType) -> Kind:
    """Return how a column of this type is used when its role is not declared.

    Integers, floats and decimals are numeric, and so are dates (days since 1970), timestamps (seconds since 1970 UTC),
    times and durations (seconds). Strings, booleans and dictionaries are categorical.

    Raises:
        UserError: the type is nested, binary or null.

    >>> kind_of(pa.float16()), kind_of(pa.date32()), kind_of(pa.bool_())
    ('numeric', 'numeric', 'categorical')
    """
    values = value_type(dtype)
    if not (is_text(values) or types.is_boolean(values) or is_number(values) or _is_instant(values)):
        raise UserError(f"type {dtype} is {_refusal(values)}")
    if types.is_dictionary(dtype) or is_text(values) or types.is_boolean(values):
        return "categorical"
    return "numeric"


def _refusal(dtype: pa.DataType) -> str:
    if types.is_null(dtype):
        return "empty (every value is null): leave it out with schema.drop"
    if types.is_nested(dtype):
        return "nested: flatten it into columns of its own, or leave it out with schema.drop"
    if "binary" in str(dtype):
        return "binary: write it as a string or a number, or leave it out with schema.drop"
    return "not supported: write it as a string or a number, or leave it out with schema.drop"


def to_float64(array: pa.Array) -> np.ndarray:
    """Return ``(n,)`` float64; a null is NaN, NaN and infinities stay.

    Raises:
        UserError: the type has no meaning as a number (strings, nested, binary).

    >>> to_float64(pa.array([1, None, 3])).tolist()
    [1.0, nan, 3.0]
    """
    if array.type == _FLOAT64:  # most columns; of thousands of them, each step here is felt
        plain: np.ndarray = array.to_numpy(zero_copy_only=False)
        return plain
    array = _plain(array)
    dtype = array.type
    scale = 1.0
    if types.is_date32(dtype):
        array = array.cast(pa.int32())
    elif types.is_date64(dtype):
        array, scale = array.cast(pa.int64()), float(_MS_PER_DAY)
    elif _is_instant(dtype):
        array = array.cast(pa.int32() if types.is_time32(dtype) else pa.int64())
        scale = float(PER_SECOND[dtype.unit])
    elif not (is_number(dtype) or types.is_boolean(dtype) or types.is_null(dtype)):
        raise UserError(f"a number is due, and type {dtype} is none: declare the column as categorical or change it")
    floats: np.ndarray = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return floats / scale if scale != 1.0 else floats


def to_text(array: pa.Array) -> pa.Array:
    """Return the canonical text of a category as a string array; null and NaN stay null.

    Equal values have equal text whatever their width: int32 3, int64 3 and the double 3.0 of an integer column with
    nulls are all ``"3"``. A dictionary is decoded; the file's codes differ between row groups.

    >>> to_text(pa.array([3.0, None, 2.5])).to_pylist(), to_text(pa.array([True])).to_pylist()
    (['3', None, '2.5'], ['true'])
    """
    if array.type == _STRING:
        return array
    if types.is_dictionary(array.type):
        return to_text(array.dictionary).take(array.indices)
    array = _plain(array)
    dtype = array.type
    if is_text(dtype) or types.is_integer(dtype) or types.is_boolean(dtype) or types.is_null(dtype):
        return array.cast(pa.string())
    if types.is_floating(dtype):
        return _each_distinct(array, _float_text)
    if types.is_duration(dtype):
        return to_text(pa.array(to_float64(array), from_pandas=True))
    if types.is_timestamp(dtype):
        array = array.cast(pa.timestamp(dtype.unit))  # drops the zone, keeps the instant in UTC
    elif not (types.is_decimal(dtype) or _is_instant(dtype)):
        raise UserError(f"type {dtype} is {_refusal(dtype)}")
    text = array.cast(pa.string())
    has_point = pc.match_substring(text, ".")
    # 1.50 and 1.5 are one value, and so are times of other units
    return pc.if_else(has_point, pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), "."), text)


def _float_text(value: float) -> str | None:
    if value != value:
        return None
    if value in (float("inf"), float("-inf")):
        return str(value)
    return str(int(value)) if value == int(value) else str(value)


def _each_distinct(array: pa.Array, text: Callable[[float], str | None]) -> pa.Array:
    if types.is_float16(array.type):  # pyarrow encodes it from 26 on
        distinct, places = np.unique(array.to_numpy(zero_copy_only=False), return_inverse=True)
        return pa.array([text(value) for value in distinct], type=pa.string()).take(pa.array(places))
    encoded = array.dictionary_encode()
    # numpy scalars keep the shortest digits of their own width: float32 0.1 is "0.1", not "0.10000000149011612"
    values = encoded.dictionary.to_numpy(zero_copy_only=False)
    return pa.array([text(value) for value in values], type=pa.string()).take(encoded.indices)


def _plain(array: pa.Array) -> pa.Array:
    """Undo dictionary and run-end encoding."""
    while True:
        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        elif types.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        else:
            return array


def unify(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both without changing their meaning, or None.

    >>> unify(pa.int32(), pa.int64()), unify(pa.int64(), pa.float32()), unify(pa.int64(), pa.string())
    (DataType(int64), DataType(double), None)
    """
    if left == right:
        return left
    left, right = value_type(left), value_type(right)
    if left == right or types.is_null(right):
        return left
    if types.is_null(left):
        return right
    kind = value_kind(left)
    return _UNIFY[kind](left, right) if fits(kind, right) and kind in _UNIFY else None


def _unify_texts(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    return pa.large_string() if types.is_large_string(left) or types.is_large_string(right) else pa.string()


def _unify_numbers(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    if types.is_floating(left) and types.is_floating(right):
        return left if left.bit_width >= right.bit_width else right
    if not (types.is_integer(left) and types.is_integer(right)):
        return pa.float64()
    if types.is_signed_integer(left) == types.is_signed_integer(right):
        return left if left.bit_width >= right.bit_width else right
    # no integer holds both negative numbers and all of uint64
    return pa.float64() if pa.uint64() in (left, right) else pa.int64()


def _unify_timestamps(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    # instants of two zones have UTC in common
    return pa.timestamp(_finer(left, right), left.tz if left.tz == right.tz else "UTC")


def _unify_times(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    unit = _finer(left, right)
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


def _finer(left: pa.DataType, right: pa.DataType) -> str:
    units: tuple[str, str] = (left.unit, right.unit)
    return max(units, key=_UNITS.index)


_UNIFY: Final[dict[ValueKind, Callable[[pa.DataType, pa.DataType], pa.DataType]]] = {
    "text": _unify_texts,
    "number": _unify_numbers,
    "date": lambda left, right: pa.date64(),
    "timestamp": _unify_timestamps,
    "zoned timestamp": _unify_timestamps,
    "time": _unify_times,
    "duration": lambda left, right: pa.duration(_finer(left, right)),
}
