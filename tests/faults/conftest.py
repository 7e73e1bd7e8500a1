"""The corpus of faults: each case says how it must end, and the closing line counts them.

The classes: ``works``, ``2`` (the user's mistake, one line), ``75`` (try again, one line), and the HTTP statuses of a
request (``200``, ``400``, ``406``, ``413``, ``415``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tabstep.schema import Schema
from tests.serving.conftest import _rich_table, _save_model

KIND = "fault"


@pytest.fixture
def ends(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Count the case under its class, which its test has checked."""
    return lambda kind: record_property(KIND, kind)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed", "skipped") for report in terminalreporter.getreports(outcome)]
    ours = [report for report in reports if "tests/faults/" in report.nodeid and report.when == "call"]
    kinds = Counter(str(value) for report in ours for name, value in report.user_properties if name == KIND)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    passed = sum(report.outcome == "passed" for report in ours)
    terminalreporter.write_line(f"faults: {passed} of {len(ours)} cases end as they must ({counted})")


@pytest.fixture(scope="session")
def rich() -> pa.Table:
    return _rich_table(40)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, rich: pa.Table) -> Path:
    numeric = ("age", "income", "joined", "waited", "flag", "seen")
    schema = Schema(id="row_id", label=("label",), numeric=numeric, categorical=("city", "member"))
    return _save_model(tmp_path_factory.mktemp("faults") / "model", rich, schema)
