from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.system.sanitize import csv_cell, printable


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "-", "--", "-inf e", "-1_0 "]
)
def test_what_a_spreadsheet_would_run_is_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1.5", "+3", "-1e-05", "-inf", -1.5, 3, None, "", "mlp", "a=b", "[0.9,-1]", True])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert csv_cell(value) is value


@given(st.text())
def test_a_cell_comes_back_from_the_file(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(text), "end"])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert row == [csv_cell(text), "end"]
    assert row[0].removeprefix("'") == text.removeprefix("'")


@given(st.text())
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert shown.isprintable()
    assert printable("a\x1b[31m\nb") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b"
