"""Plain values in the grammar of Hydra's overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral, Real

Plain = str | float | Sequence["Plain"] | None


def written(value: Plain) -> str:
    r"""Write a value as it stands behind the ``=`` of an override, so that Hydra reads just this one.

    >>> print(written("it's"), written(0.001), written(["a", "b=c"]), written(None), written(True))
    'it\'s' 0.001 ['a','b=c'] null true
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Real):  # NumPy's whole numbers are no int
        return repr(int(value) if isinstance(value, Integral) else float(value))
    if isinstance(value, str):
        return quoted(value)
    return f"[{','.join(map(written, value))}]"


def quoted(text: str, mark: str = "'") -> str:
    r"""Write a text between quotation marks; only backslashes before one of them have to be doubled.

    >>> print(quoted(r"a=b\c's"), quoted('say "a"', '"'), quoted("end\\"))
    'a=b\c\'s' "say \"a\"" 'end\\'
    """
    body = re.sub(rf"(\\*){mark}", rf"\1\1\\{mark}", text)
    return mark + re.sub(r"(\\+)\Z", r"\1\1", body) + mark
