"""One attempt of an emulated job: its hosts run until they end, time is up, or the capacity is taken away."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tabstep.emulator.host import Host, kill
from tabstep.log_lines import parse_line

GRACE_SECONDS: Final = 2.0  # at most, between SIGTERM and SIGKILL; the service waits for 120
_OTHERS_SECONDS: Final = 10.0  # that hosts of a failed one go on
End = Literal["ended", "interrupted", "out of time"]


@dataclass
class Attempt:
    """What came of it: why it ended, exit code by host, seconds."""

    end: End = "ended"
    exit_codes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def run_attempt(
    hosts: Sequence[Host],
    request: Mapping[str, Any],
    *,
    hear: Callable[[str, str], None],
    interrupt_after: int | None,
    max_seconds: float,
) -> Attempt:
    """Run the hosts of a job together.

    Args:
        hear: is given each line of the log with its host's name, as it comes.
        interrupt_after: takes the capacity away when so many epoch lines have come: SIGTERM, then SIGKILL after
            ``GRACE_SECONDS``, or when another epoch has ended.
        max_seconds: the job's ``MaxRuntimeInSeconds``.
    """
    started = time.monotonic()
    attempt = Attempt()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for host in hosts:
            processes[host.name] = host.start(request)
        attempt.end = _follow(processes, hear, interrupt_after, started + max_seconds)
    finally:
        for process in processes.values():
            if process.poll() is None:
                kill(process)
    attempt.exit_codes = {name: int(process.returncode) for name, process in processes.items()}
    attempt.seconds = time.monotonic() - started
    return attempt


def _follow(
    processes: Mapping[str, subprocess.Popen[bytes]],
    hear: Callable[[str, str], None],
    interrupt_after: int | None,
    deadline: float,
) -> End:
    """Read the log until every host has closed it, or the job is to be stopped."""
    lines = _listen(processes)
    why: End = "out of time"
    stop_at, epochs, open_logs = deadline, 0, len(processes)
    while open_logs:
        name, line = _next(lines, stop_at)
        if name == "":
            return why
        if line is None:
            open_logs -= 1
            if processes[name].wait() != 0 and why == "out of time":  # the service ends the other hosts too
                why, stop_at = "ended", min(stop_at, time.monotonic() + _OTHERS_SECONDS)
            continue
        hear(name, line)
        if "train_loss" not in parse_line(line):
            continue
        if why == "interrupted":  # a short job must not end before the capacity is gone
            return why
        epochs += 1
        if epochs == interrupt_after:
            _terminate(processes)
            why, stop_at = "interrupted", time.monotonic() + GRACE_SECONDS
    return "interrupted" if why == "interrupted" else "ended"


def _terminate(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for process in processes.values():
        process.send_signal(signal.SIGTERM)


def _listen(processes: Mapping[str, subprocess.Popen[bytes]]) -> queue.Queue[tuple[str, str | None]]:
    """Return a queue of the lines of all hosts with the host's name; None ends the lines of one."""
    lines: queue.Queue[tuple[str, str | None]] = queue.Queue()
    for name, process in processes.items():
        threading.Thread(target=_read, args=(name, process, lines), daemon=True).start()
    return lines


def _next(lines: queue.Queue[tuple[str, str | None]], stop_at: float) -> tuple[str, str | None]:
    """Return the next line with its host's name; the name is empty when the time is over."""
    try:
        return lines.get(timeout=stop_at - time.monotonic())
    except (queue.Empty, ValueError):  # the latter of a time that has passed
        return "", None


def _read(name: str, process: subprocess.Popen[bytes], lines: queue.Queue[tuple[str, str | None]]) -> None:
    assert process.stdout is not None
    with process.stdout as log:
        for line in log:
            lines.put((name, line.decode("utf-8", "replace").rstrip("\n")))
    lines.put((name, None))
