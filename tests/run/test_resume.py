"""Runs that are killed, stopped or find another world when they come back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).with_name("kills.py")


def kill(data: Path, out: Path, *points: str) -> list[dict[str, object]]:
    command = [sys.executable, str(KILLS), str(data), str(out), *points]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = out / "log.txt"
    assert done.returncode == 0, done.stderr + (log.read_text()[-3000:] if log.exists() else "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_killed_twice_anywhere_a_run_ends_bit_for_bit_like_one_that_was_not(tiny_data: Path, tmp_path: Path) -> None:
    cases = kill(tiny_data, tmp_path)
    points = {case["point"] for case in cases}
    assert len(cases) > 150
    assert {"batch", "saved", "renamed", "validation", "closed", "export", "written"} <= points
    unequal = [case for case in cases if not case["equal"]]
    assert not unequal, f"{len(unequal)} of {len(cases)}: {unequal[:5]}"
