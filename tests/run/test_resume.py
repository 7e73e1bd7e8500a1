"""Runs that are killed, stopped or find another world when they come back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.conftest import make_table
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


@pytest.mark.slow
def test_killed_anywhere_a_pack_chooses_the_same_members(tiny_data: Path, tmp_path: Path) -> None:
    points = ("batch", "saved", "closed", "scored", "export", "exported")
    cases = kill(
        tiny_data, tmp_path, *points, "model=pack", "model.members=3", "trainer.max_epochs=2", "data.batch_size=100"
    )
    assert {case["point"] for case in cases} == {*points}
    unequal = [case for case in cases if not case["equal"]]
    assert not unequal, f"{len(unequal)} of {len(cases)}: {unequal[:5]}"
    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert report["selection"]["after"] <= report["selection"]["before"]


@pytest.mark.slow
def test_killed_between_the_batches_of_a_window_a_run_from_disk_ends_bit_for_bit_alike(tmp_path: Path) -> None:
    """Three windows of two blocks, two batches a window: it goes on in the middle of one."""
    data = tmp_path / "data"
    for split, rows in (("train", 20_000), ("val", 500), ("test", 501)):
        (data / split).mkdir(parents=True)
        pq.write_table(make_table(rows, seed=rows), data / split / "part.parquet")
    for place in ("stored", "held"):
        (tmp_path / place).mkdir()
    words = ("data.in_memory=false", "data.shuffle_window=8192", "data.batch_size=2500", "trainer.max_epochs=2")
    cases = kill(data, tmp_path / "stored", "batch", *words)
    assert len(cases) == 16
    assert all(case["equal"] for case in cases)
    held = kill(data, tmp_path / "held", "export", *words, "data.in_memory=true")
    assert all(case["equal"] for case in held)
    weights = [
        (tmp_path / place / "whole" / "model" / "model.safetensors").read_bytes() for place in ("stored", "held")
    ]
    assert weights[0] == weights[1]


def test_no_point_is_left_out() -> None:
    assert {point for points in POINTS for point in points} == {*ALL_POINTS}
    assert sum(sum(points.values()) for points in POINTS) > 400
