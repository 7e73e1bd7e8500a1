from __future__ import annotations

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from tabstep.config.grammar import quoted, written

PARSER = OverridesParser.create()
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("ab'\"\\,=[]{}$:# \n")
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS)


def read(text: str) -> object:
    return PARSER.parse_override(f"key={text}").value()


@given(st.recursive(LEAVES, st.lists, max_leaves=6))
def test_hydra_reads_what_was_written(value: object) -> None:
    back = read(written(value))  # type: ignore[arg-type]
    assert (back, repr(back)) == (value, repr(value))


@given(TEXTS)
@pytest.mark.parametrize("mark", ["'", '"'])
def test_both_marks_quote(mark: str, text: str) -> None:
    assert read(quoted(text, mark)) == text


def test_numbers_of_numpy_are_numbers() -> None:
    assert written([np.int64(3), np.float64(0.1)]) == "[3,0.1]"  # type: ignore[list-item]
