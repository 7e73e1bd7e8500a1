from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tabstep.system.memory import available_memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """A machine with 8 GiB free, as its kernel tells it."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")
    (proc / "self" / "status").write_text("VmSize:\t 4194304 kB\nVmData:\t 1048576 kB\n")
    return proc, groups


def group(proc: Path, place: Path, line: str, files: dict[str, str]) -> None:
    (proc / "self" / "cgroup").write_text(line)
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(text)


def test_without_limits_it_is_what_the_machine_has_free(machine: tuple[Path, Path]) -> None:
    assert available_memory(*machine) == 8 * GIB


@pytest.mark.parametrize(("most", "left"), [(str(4 * GIB), 4 - 3 + 2), ("max", 8), (str(2**63 - 4096), 8)])
def test_a_control_group_of_version_2_has_its_limit_less_what_is_used_but_for_pages_of_files(
    machine: tuple[Path, Path], most: str, left: int
) -> None:
    proc, groups = machine
    files = {"memory.max": most, "memory.current": str(3 * GIB), "memory.stat": f"anon 1\ninactive_file {2 * GIB}\n"}
    group(proc, groups / "jobs" / "one", "0::/jobs/one\n", files)
    assert available_memory(proc, groups) == left * GIB


def test_the_limit_of_a_group_around_it_counts_too(machine: tuple[Path, Path]) -> None:
    proc, groups = machine
    files = {"memory.max": str(3 * GIB), "memory.current": str(GIB), "memory.stat": "inactive_file 0\n"}
    group(proc, groups / "jobs", "0::/jobs/one\n", files)
    assert available_memory(proc, groups) == 2 * GIB


def test_a_control_group_of_version_1_is_seen_from_within_a_container_as_the_root(machine: tuple[Path, Path]) -> None:
    proc, groups = machine
    files = {
        "memory.limit_in_bytes": str(4 * GIB),
        "memory.usage_in_bytes": str(GIB),
        "memory.stat": "inactive_file 5\ntotal_inactive_file 0\n",
    }
    group(proc, groups / "memory", "5:cpu:/x\n4:memory:/docker/one\n0::/\n", files)
    assert available_memory(proc, groups) == 3 * GIB


def test_a_limit_of_the_process_leaves_what_is_not_taken_yet(
    machine: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {resource.RLIMIT_DATA: 3 * GIB, resource.RLIMIT_AS: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], resource.RLIM_INFINITY))
    assert available_memory(*machine) == 2 * GIB
    limits[resource.RLIMIT_AS] = 5 * GIB
    assert available_memory(*machine) == GIB
    limits[resource.RLIMIT_AS] = 3 * GIB
    assert available_memory(*machine) == 0


def test_a_system_without_proc_has_all_of_its_memory(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path) > 2**28


def test_this_machine_answers() -> None:
    assert 0 < available_memory() < 2**50
