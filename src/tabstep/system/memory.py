"""How much memory this process may still take: what the machine has free, and no more than its limits allow."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_UNLIMITED: Final = 2**60
"""Bytes from which on a limit of a control group is none: version 1 writes 2^63, rounded to pages."""


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that can still be taken: the least of free memory, control groups and rlimits.

    Memory that only keeps pages of files counts as free, as the kernel gives it away when it is asked for.
    """
    return max(0, min([_free(proc), *_in_groups(proc, groups), *_in_rlimits(proc)]))


def _free(proc: Path) -> int:
    try:
        return _kilobytes(proc / "meminfo", "MemAvailable")
    except (OSError, ValueError):  # macOS has no /proc
        return machine_memory()


def machine_memory() -> int:
    """Return the bytes that this machine has, free or not."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _kilobytes(path: Path, name: str) -> int:
    """Return a value of ``name:   123 kB`` in bytes; ``ValueError`` where there is none."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path}: no {name}")
    return int(found[1]) * 1024


def _in_groups(proc: Path, groups: Path) -> Iterator[int]:
    """Yield what is left in each control group around this process, of version 2 or 1."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used, cached = groups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        place = root / path.lstrip("/")
        for directory in (place, *place.parents):  # a container may see its own group as the root
            yield from _left(directory / limit, directory / used, directory / "memory.stat", cached)
            if directory == root:
                break


def _left(limit: Path, used: Path, stat: Path, cached: str) -> Iterator[int]:
    try:
        most, taken = int(limit.read_text(encoding="ascii")), int(used.read_text(encoding="ascii"))
        pages = re.search(rf"^{cached} (\d+)$", stat.read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):  # no such group here, or the limit is the word max
        return
    if most < _UNLIMITED:
        yield most - taken + (int(pages[1]) if pages else 0)


def _in_rlimits(proc: Path) -> Iterator[int]:
    for kind, name in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            try:
                yield limit - _kilobytes(proc / "self" / "status", name)
            except (OSError, ValueError):
                # no usage is told here, and more than the limit it cannot be
                yield limit
