"""Text that holds numbers and dates as people write them: recognised, and read as what it means.

A format is ``number`` (``$1,200.50``, ``12 %``), ``comma`` (``1.332,3 €``, ``12,5 %``), a pattern of ``strptime``,
such as ``%d.%m.%Y``, or ``text``, which is left as it is. A per cent sign or a currency is left out: what a column
means it means in every row. Fractions of a second are left out too, and a time with an offset is one of UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tabstep.errors import UserError
from tabstep.tables.column_types import is_text, to_text, value_type
from tabstep.tables.missing_words import without_words

# with the no-break spaces that stand between thousands in some languages
_SIGNS: Final = r"[\s\x{00A0}\x{202F}$€£¥%']"
_LEFT_OUT: Final[Mapping[str, str]] = {"number": f"{_SIGNS}|,", "comma": rf"{_SIGNS}|\."}
_PLAIN: Final = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_AMOUNT: Final = r"^[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_SHAPES: Final[Mapping[str, str]] = {
    "number": r"^[-+]?[$€£¥]?\s?[-+]?([0-9]+|[0-9]{1,3}([,'\s\x{00A0}\x{202F}][0-9]{3})+)(\.[0-9]+)?\s?[$€£¥%]?$",
    "comma": r"^[-+]?[$€£¥]?\s?[-+]?([0-9]+|[0-9]{1,3}([.'\s\x{00A0}\x{202F}][0-9]{3})+)(,[0-9]+)?\s?[$€£¥%]?$",
}
AS_TEXT: Final = "text"
_MARK: Final = r"[.,']|[0-9][\s\x{00A0}\x{202F}][0-9]"
"""What stands between the digits of a number: a thousand, a fraction, or the groups of a code."""
_CODE: Final = r"^[-+]?0[0-9]"
_FOUR_DIGITS: Final = r"(^|[^0-9])[0-9]{4}($|[^0-9])"
# in this order: where two fit, the day is before the month
_DATES: Final = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S%z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%m/%d/%Y %H:%M",
    "%Y/%m/%d",
)


def parsed_type(form: str) -> pa.DataType:
    """Return the type that a column of this format is read as.

    Raises:
        UserError: there is no such format.

    >>> parsed_type("comma"), parsed_type("%d.%m.%Y"), parsed_type("%d.%m.%Y %H:%M")
    (DataType(double), DataType(date32[day]), TimestampType(timestamp[s]))
    """
    if form == AS_TEXT:
        return pa.string()
    if form in _LEFT_OUT:
        return pa.float64()
    if "%" not in form:
        raise UserError(f"{form!r} is no format: choose number, comma, text, or a pattern of a date such as %d.%m.%Y")
    return pa.timestamp("s") if "%H" in form or "%I" in form else pa.date32()


def parsed(array: pa.Array, form: str, name: str) -> pa.Array:
    """Return ``array``, which holds text, as ``parsed_type(form)``; an array of another type is returned as it is.

    Raises:
        UserError: a value does not have the format.

    >>> parsed(pa.array(["$1,200.50", "12 %", None, "n/a"]), "number", "x").to_pylist()
    [1200.5, 12.0, None, None]
    >>> parsed(pa.array(["1.332,3"]), "comma", "x").to_pylist()
    [1332.3]
    >>> parsed(pa.array(["31.12.2025"]), "%d.%m.%Y", "x").to_pylist()
    [datetime.date(2025, 12, 31)]
    >>> parsed(pa.array(["2025-12-31T23:59:59.25+01:00"]), "%Y-%m-%dT%H:%M:%S%z", "x").to_pylist()
    [datetime.datetime(2025, 12, 31, 22, 59, 59)]
    """
    if form == AS_TEXT or not is_text(value_type(array.type)):
        return array
    text = without_words(to_text(array))
    dtype = parsed_type(form)
    if form in _LEFT_OUT:
        plain = _plain(text, form)
        _refuse(text, pc.match_substring_regex(plain, _PLAIN), form, name)
        return plain.cast(dtype)
    moments = _moments(text, form)
    _refuse(text, pc.or_(pc.is_valid(moments), pc.is_null(text)), form, name)
    return moments.cast(dtype)


def proposed_format(values: pa.Array) -> str | None:
    """Return the format that all of some distinct texts have, or None; digits alone may be a code, and stay text.

    >>> proposed_format(pa.array(["1,5", "2.000,75", "-"])), proposed_format(pa.array(["31.12.2025", "13.01.2026"]))
    ('comma', '%d.%m.%Y')
    >>> proposed_format(pa.array(["0815", "4711"])), proposed_format(pa.array(["$5", "five"]))
    (None, None)
    """
    text = without_words(values).drop_null()
    if not len(text):
        return None
    for form, shape in _SHAPES.items():
        if _all(pc.match_substring_regex(text, shape)) and _is_written(text, form):
            return form
    if not _all(pc.match_substring_regex(text, _FOUR_DIGITS)):  # strptime takes 1.2.3 for a day of the year 3
        return None
    moments = (_moments(text, form) for form in _DATES)
    return next((form for form, found in zip(_DATES, moments, strict=True) if _all(pc.is_valid(found))), None)


def amounts(texts: pa.Array) -> pa.Array:
    """Return which texts are plain numbers, or words that stand for none; a code such as 007 is a name.

    >>> amounts(pa.array(["1.5", "-3", "n.a.", "keine", "007", "e5"])).to_pylist()
    [True, True, True, False, False, False]
    """
    plain = pc.match_substring_regex(without_words(texts), _AMOUNT)
    return pc.fill_null(plain, True)


def _moments(text: pa.Array, form: str) -> pa.Array:
    """Return timestamps in seconds, null where a text does not fit; with an offset, of UTC."""
    if "%S" in form:  # which reads no fraction of a second
        text = pc.replace_substring_regex(text, r"(:[0-9]{2})\.[0-9]{1,9}", r"\1")
    return pc.strptime(text, format=form, unit="s", error_is_null=True)


def is_certain(texts: pa.Array, form: str) -> bool:
    """Tell whether texts of a format can mean nothing else by the other formats.

    Of ``1,200`` nobody knows whether it is a thousand or one and a fraction, of ``170 123`` whether it is an amount or
    a code, of ``03/04/2026`` which one is the month.

    >>> is_certain(pa.array(["1,200"]), "number"), is_certain(pa.array(["1,200", "7.5"]), "number")
    (False, True)
    >>> is_certain(pa.array(["03/04/2026"]), "%d/%m/%Y"), is_certain(pa.array(["31/12/2025"]), "%d/%m/%Y")
    (False, True)
    >>> is_certain(pa.array(["2026-11-27"]), "%Y-%m-%d"), is_certain(pa.array(["12 %"]), "number")
    (True, True)
    """
    text = without_words(texts).drop_null()
    if form in _SHAPES:
        other = _SHAPES["comma" if form == "number" else "number"]
        if pc.any(pc.match_substring_regex(text, _CODE)).as_py():
            return False
        marked = pc.any(pc.match_substring_regex(text, _MARK)).as_py()
        return not marked or not _all(pc.match_substring_regex(text, other))
    if form.startswith("%d/%m/"):
        return not _all(pc.is_valid(_moments(text, form.replace("%d/%m/", "%m/%d/"))))
    return True


def _is_written(text: pa.Array, form: str) -> bool:
    """Tell whether a text has a sign, a mark or a fraction, so that it is a quantity and not a code.

    Of a comma before three digits nobody knows whether it is a mark or a fraction: then the other form must not fit.
    """
    if _digits(text):
        # digits alone are as good a code
        return False
    return form == "number" or not _all(pc.match_substring_regex(text, _SHAPES["number"]))


def _digits(text: pa.Array) -> bool:
    return _all(pc.match_substring_regex(text, r"^[0-9]+$"))


def _all(flags: pa.Array) -> bool:
    return bool(pc.all(flags, min_count=0).as_py())  # of no rows too


def _plain(text: pa.Array, form: str) -> pa.Array:
    plain = pc.replace_substring_regex(text, _LEFT_OUT[form], "")
    return pc.replace_substring(plain, ",", ".") if form == "comma" else plain


def _refuse(text: pa.Array, valid: pa.Array, form: str, name: str) -> None:
    if _all(pc.fill_null(valid, True)):
        return
    value = text.filter(pc.invert(pc.fill_null(valid, True)))[0].as_py()
    raise UserError(
        f"column {name!r}: {value!r} is not of the format {form!r}: repair it, or train with another schema.parse, "
        "where text leaves the column as it is"
    )


def parsed_batch(batch: pa.RecordBatch, parse: Mapping[str, str]) -> pa.RecordBatch:
    """Return ``batch`` with the columns of ``parse`` read by their formats, those that are there and hold text."""
    for index, name in enumerate(batch.schema.names):
        if name in parse:
            batch = batch.set_column(index, name, parsed(batch.column(index), parse[name], name))
    return batch
