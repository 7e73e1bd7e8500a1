"""What scripts/check calls, with stand-ins for the programs of the virtual environment that write down how."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / "scripts" / "check"
PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$(basename "$0") $*" in
*"$FAILING"*) echo "it failed"; exit "$CODE" ;;
*pytest*) echo "3 passed" ;;
*) echo "no problem" ;;
esac
"""


@dataclass
class Environment:
    """A virtual environment of stand-ins; one of them may fail."""

    place: Path

    def check(self, *arguments: str, failing: str = "none", code: int = 1) -> subprocess.CompletedProcess[str]:
        own = {
            "TABSTEP_VENV": str(self.place),
            "CALLS": str(self.place / "calls"),
            "FAILING": failing,
            "CODE": str(code),
        }
        return subprocess.run(
            ["sh", str(CHECK), *arguments], capture_output=True, text=True, env={**os.environ, **own}, check=False
        )

    @property
    def calls(self) -> list[str]:
        return sorted((self.place / "calls").read_text().splitlines())


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    (tmp_path / "bin").mkdir()
    for name in ("python", "pytest", "ruff", "lint-imports"):
        (tmp_path / "bin" / name).write_text(PROGRAM)
        (tmp_path / "bin" / name).chmod(0o755)
    return Environment(tmp_path)


PYTEST = "python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal"


def test_everything_runs_and_the_line_of_pytest_is_the_last(environment: Environment) -> None:
    done = environment.check()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "3 passed"
    assert environment.calls == [
        "lint-imports --no-cache", "python -m mypy", f"{PYTEST} -m not slow", "ruff check .",
        "ruff format --check --diff .",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("failing", "named"),
    [("mypy", "types"), ("lint-imports", "imports"), ("ruff check", "lint"), ("format", "format"), ("pytest", "tests")],
)
def test_one_failure_fails_it_and_all_else_runs(environment: Environment, failing: str, named: str) -> None:
    done = environment.check(failing=failing)
    assert done.returncode == 1
    assert "it failed" in done.stdout
    assert done.stderr.startswith("== failed:")
    assert named in done.stderr
    assert len(environment.calls) == 5


def test_slow_tests_alone(environment: Environment) -> None:
    assert environment.check("--slow", "tests/run", "-x").returncode == 0
    assert environment.calls == [f"{PYTEST} -m slow tests/run -x"]


def test_a_selection_runs_no_check(environment: Environment) -> None:
    assert environment.check("-k", "one two").returncode == 0
    assert environment.calls == [f"{PYTEST} -m not slow -k one two"]


def test_no_chosen_test_is_no_success(environment: Environment) -> None:
    done = environment.check("tests/run/test_resume.py", failing="pytest", code=5)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["== no test was chosen: slow ones run with --slow", "== failed: tests"]


def test_an_environment_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = Environment(tmp_path).check()
    assert done.returncode == 1
    assert done.stderr == f"tabstep: {tmp_path}/bin holds no pytest; run scripts/setup test first\n"
