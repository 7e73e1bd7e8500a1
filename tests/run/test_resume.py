"""Runs that are killed, stopped or find another world when they come back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.run.kills import POINTS as ALL_POINTS

KILLS = Path(__file__).with_name("kills.py")


def kill(data: Path, out: Path, *points: str) -> list[dict[str, object]]:
    command = [sys.executable, str(KILLS), str(data), str(out), *points]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = out / "log.txt"
    assert done.returncode == 0, done.stderr + (log.read_text()[-3000:] if log.exists() else "")
    return [json.loads(line) for line in done.stdout.splitlines()]


# How often a run comes by each point at least; a process takes the points of one line.
POINTS = [
    {"sync": 125},
    {"synced": 125},
    {"batch": 21, "step": 12, "save": 12, "saved": 12},
    {"serialized": 12, "prune": 12, "unlink": 8, "rename": 25},
    {"best": 2, "link": 2, "validation": 6, "validated": 3, "epoch": 3, "closed": 3, "export": 1, "exported": 1}
    | {"scored": 2, "written": 5, "renamed": 25},
]


@pytest.mark.slow
@pytest.mark.parametrize("points", POINTS, ids=lambda points: next(iter(points)))
def test_killed_twice_anywhere_a_run_ends_bit_for_bit_like_one_that_was_not(
    points: dict[str, int], tiny_data: Path, tmp_path: Path
) -> None:
    cases = kill(tiny_data, tmp_path, *points)
    found = Counter(case["point"] for case in cases)
    assert found.keys() == points.keys()
    assert all(found[point] >= least for point, least in points.items()), found
    unequal = [case for case in cases if not case["equal"]]
    assert not unequal, f"{len(unequal)} of {len(cases)}: {unequal[:5]}"


def test_no_point_is_left_out() -> None:
    assert {point for points in POINTS for point in points} == {*ALL_POINTS}
    assert sum(sum(points.values()) for points in POINTS) > 400
