"""Words that stand for no value: in a cell of CSV, and among numbers and times that are written as text."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

EMPTY_CELLS: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""What is missing in a cell of CSV, whatever its column holds."""

# Among numbers or times these are no values, while a category of this name may be one: "unknown" is an answer.
_WORDS: Final = pa.array(
    [
        *("", "-", "--", "---", ".", "?", "??", "na", "n/a", "n.a.", "n.a", "n. a.", "nan", "nil", "null", "none"),
        *("<na>", "(null)", "\\n", "nat", "missing", "unknown", "undefined", "not available", "not applicable"),
        *("#n/a", "#na", "#null!", "#div/0!", "#value!", "#ref!", "#name?", "#num!"),  # of spreadsheets
    ]
)


def without_words(text: pa.Array) -> pa.Array:
    r"""Return text of numbers or times with no blanks at its ends, null where a word says that there is no value.

    Upper and lower case are the same here.

    >>> without_words(pa.array([" 7 ", "N.A.", "?", "Unknown", r"\N", "no", ""])).to_pylist()
    ['7', None, None, None, None, 'no', None]
    """
    trimmed = pc.utf8_trim_whitespace(text)
    words = pc.is_in(pc.utf8_lower(trimmed), value_set=_WORDS)
    return pc.if_else(words, pa.scalar(None, pa.string()), trimmed) if words.true_count else trimmed
