from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.launch.jobs import EPOCH, REQUEST

from tabstep.emulator.attempt import Attempt, run_attempt
from tabstep.emulator.host import Host

pytest.importorskip("psutil")


def run(
    monkeypatch: pytest.MonkeyPatch, scripts: dict[str, str], directory: Path, **options: Any
) -> tuple[Attempt, list[str]]:
    """Run scripts in the place of the toolkit, one for each host."""

    def start(self: Host, request: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-u", "-c", scripts[self.name]]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    monkeypatch.setattr(Host, "start", start)
    heard: list[str] = []
    given: dict[str, Any] = {"interrupt_after": None, "max_seconds": 30.0, **options}
    hosts = [Host(name=name, directory=directory / name) for name in scripts]
    return run_attempt(hosts, REQUEST, hear=lambda name, line: heard.append(f"{name}: {line}"), **given), heard


def test_the_log_of_every_host_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempt, heard = run(
        monkeypatch, {"a": "print('x'); print('y', end='')", "b": "print(b'\\xff'.decode('latin1'))"}, tmp_path
    )
    assert (attempt.end, attempt.exit_codes) == ("ended", {"a": 0, "b": 0})
    assert sorted(heard) == ["a: x", "a: y", "b: ÿ"]


def test_hosts_of_a_failed_one_are_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tabstep.emulator.attempt._OTHERS_SECONDS", 0.2)
    started = time.monotonic()
    attempt, _ = run(monkeypatch, {"a": "raise SystemExit(3)", "b": "import time; time.sleep(60)"}, tmp_path)
    assert (attempt.end, attempt.exit_codes) == ("ended", {"a": 3, "b": -9})
    assert time.monotonic() - started < 20


def test_the_time_of_a_job_is_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempt, _ = run(monkeypatch, {"a": "import time; time.sleep(60)"}, tmp_path, max_seconds=0.2)
    assert (attempt.end, attempt.exit_codes) == ("out of time", {"a": -9})


def test_a_short_job_does_not_end_before_it_is_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tabstep.emulator.attempt.GRACE_SECONDS", 60.0)
    script = f"""
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    print({EPOCH!r})
    time.sleep(0.05)
"""
    attempt, heard = run(monkeypatch, {"a": script}, tmp_path, interrupt_after=2)
    assert (attempt.end, attempt.exit_codes) == ("interrupted", {"a": -9})
    assert heard == [f"a: {EPOCH}"] * 3
    assert attempt.seconds < 30


CHILD = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True))
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)
print(child.pid)
for _ in range(2): print({EPOCH!r})
time.sleep(60)
"""


def test_an_interruption_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import psutil

    monkeypatch.setattr("tabstep.emulator.attempt.GRACE_SECONDS", 0.5)
    attempt, heard = run(monkeypatch, {"a": CHILD}, tmp_path, interrupt_after=2)
    assert (attempt.end, attempt.exit_codes) == ("interrupted", {"a": -9})
    assert heard[-1] == "a: told"
    pid = int(heard[0].removeprefix("a: "))
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
