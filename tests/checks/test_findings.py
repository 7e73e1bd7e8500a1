from __future__ import annotations

import io

import pytest
from rich.console import Console

from tabstep.checks.findings import Finding, about_columns, findings_table, raise_errors, warning_lines
from tabstep.errors import ProblemsError


def finding(severity: str, message: str) -> Finding:
    return Finding(check="ids", split="train", column=None, severity=severity, message=message)  # type: ignore[arg-type]


def test_few_columns_have_a_finding_each_and_many_share_one() -> None:
    few = about_columns("missing", "val", "warning", [("a", "half is null"), ("b", "all is null")])
    assert [(each.column, each.message) for each in few] == [
        ("a", "column 'a': half is null"),
        ("b", "column 'b': all is null"),
    ]
    (many,) = about_columns("missing", "val", "error", [(f"c{n}", f"{n} are null") for n in range(1200)])
    assert (many.column, many.severity) == (None, "error")
    assert many.message == "1,200 columns ('c0', 'c1', 'c2', 'c3', …): 0 are null (the first of them)"


@pytest.mark.parametrize("mode", ["strict", "warn", "off"])
def test_only_errors_of_a_strict_run_are_raised(mode: str) -> None:
    findings = [finding("ok", "fine"), finding("warning", "hm"), finding("error", "bad"), finding("error", "worse")]
    if mode != "strict":
        raise_errors(findings, mode)  # type: ignore[arg-type]
        return
    with pytest.raises(ProblemsError) as caught:
        raise_errors(findings, "strict")
    assert [problem.rpartition(": ")[2] for problem in caught.value.problems] == ["bad", "worse"]
    raise_errors(findings[:2], "strict")


def test_the_table_has_a_line_each_and_no_command_for_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(findings_table([finding("ok", "fine"), finding("error", "bad \x1b[2J")]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "fine" in text
    assert "error" in text
    assert "\x1b[2J" not in text


def test_rows_of_train_are_warned_of_in_val_unless_train_repeats_its_own() -> None:
    def repeated(split: str, message: str) -> Finding:
        return Finding(check="duplicates", split=split, column=None, severity="warning", message=message)

    val = repeated("val", "9 of 9 rows are in train too")
    assert warning_lines([val]) == ["data.val: 9 of 9 rows are in train too"]
    assert warning_lines([repeated("train", "9 of 20 rows repeat another row"), val]) == []
