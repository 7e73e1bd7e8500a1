"""Whether other programs use the cores of this machine, and what PyTorch's threads had better do then.

Threads that wait for each other spin, which is fastest where nobody else wants the cores. Where others do, a thread
that spins takes the time of the one that it waits for. Measured on two cores with the built-in table: alone 62,000
rows/s with spinning and 28,000 without; three runs at a time, each 5,000 with it and 24,000 without.
"""

from __future__ import annotations

import os
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POLICY: Final = "OMP_WAIT_POLICY"
BUSY: Final = 0.5  # cores
_LEAST_SECONDS: Final = 0.1  # the kernel counts in hundredths


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Seconds of the clock, and of CPU time of all programs and of this one, up to one moment."""

    clock: float
    everyone: float
    own: float


def usage(file: Path = Path("/proc/stat")) -> Usage | None:
    """Return the usage up to now; None where the kernel does not tell it in this form, as on macOS or in a sandbox."""
    try:
        ticks = file.read_text(encoding="ascii").partition("\n")[0].split()[1:9]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks)
    except (OSError, ValueError):
        return None
    busy = user + nice + system + irq + softirq + steal
    return Usage(clock=time.monotonic(), everyone=busy / os.sysconf("SC_CLK_TCK"), own=sum(os.times()[:4]))


def used_by_others(before: Usage, after: Usage) -> float:
    """Return how many cores other programs have used between two moments, on average.

    >>> used_by_others(Usage(clock=0, everyone=10, own=1), Usage(clock=2, everyone=14, own=2))
    1.5
    """
    return (after.everyone - before.everyone - after.own + before.own) / (after.clock - before.clock)


def set_omp_wait_policy(environ: MutableMapping[str, str], before: Usage | None, after: Usage | None) -> None:
    """Let threads that wait sleep where others use the cores, unless ``environ`` says what they do.

    It has to be called before torch is imported: its thread library reads the variable when it is loaded.
    """
    if POLICY in environ or before is None or after is None or after.clock - before.clock < _LEAST_SECONDS:
        return
    if used_by_others(before, after) > BUSY:
        environ[POLICY] = "PASSIVE"
