"""What the kernel says of the cores, in its own form and with programs that really use them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tabstep.system.thread_waiting import POLICY, Usage, set_omp_wait_policy, usage, used_by_others

IDLE = Usage(clock=0.0, everyone=100.0, own=5.0)


def test_all_but_waiting_is_use(tmp_path: Path) -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text("cpu  1 20 300 4000 50000 600000 7000000 80000000 1 20\ncpu0 9 9 9 9 9 9 9 9 9 9\n")
    found = usage(tmp_path / "stat")
    assert found is not None
    assert found.everyone == pytest.approx((1 + 20 + 300 + 600_000 + 7_000_000 + 80_000_000) * tick)
    assert usage(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "cpu 1 2 3 4\n", "cpu a b c d e f g h\n"])
def test_another_form_is_no_knowledge(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text)
    assert usage(tmp_path / "stat") is None


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="needs the counters of Linux")
def test_a_program_beside_this_one_is_seen_and_this_one_is_not() -> None:
    before = usage()
    assert before is not None
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        while time.monotonic() < before.clock + 1.0:  # busy as well
            pass
        after = usage()
        other.kill()
    assert after is not None
    assert after.own - before.own > 0.3
    assert used_by_others(before, after) > 0.2


@pytest.mark.parametrize(
    ("given", "after", "expected"),
    [
        ({}, Usage(clock=2.0, everyone=103.0, own=6.5), "PASSIVE"),  # 0.75 cores
        ({}, Usage(clock=2.0, everyone=103.0, own=7.5), None),  # 0.25 cores
        ({POLICY: "ACTIVE"}, Usage(clock=2.0, everyone=103.0, own=5.0), "ACTIVE"),
        ({}, Usage(clock=0.05, everyone=101.0, own=5.0), None),  # too short to tell
        ({}, None, None),
    ],
)
def test_threads_sleep_where_others_use_the_cores(
    given: dict[str, str], after: Usage | None, expected: str | None
) -> None:
    environ = dict(given)
    set_omp_wait_policy(environ, IDLE, after)
    assert environ.get(POLICY) == expected
    set_omp_wait_policy(given, None, after)
    assert environ.keys() - given.keys() <= {POLICY}
