"""What a command finds itself in: the variables of a cluster, and clocks that jump."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Commands
from tests.faults.test_commands import check

Ends = Callable[[str], None]
BATCH = {
    "SLURM_JOB_ID": "1234",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "2",
    "SLURM_NNODES": "2",
    "SLURM_NODELIST": "host[1-2]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
STEP = {**BATCH, "SLURM_STEP_NUM_TASKS": "2"}
ALONE = {
    "a batch script": BATCH,
    "tasks that are not the devices": {**BATCH, "SLURM_NTASKS_PER_NODE": "4"},
    "salloc": {**BATCH, "SLURM_JOB_NAME": "bash"},
    "one task of srun": {**BATCH, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "3"},
    "a terminal of srun": {**STEP, "SLURM_PTY_PORT": "40001"},
    "a job of LSF": {"LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "gone", "JSM_NAMESPACE_SIZE": "2"},
}
FAST = {"a batch script", "salloc"}
REFUSED = {
    "tasks of srun": (STEP, "SLURM_STEP_NUM_TASKS=2: srun has started 2 processes, and each would train alone: "),
    "tasks of mpirun": ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE=4: mpirun has started 4 processes, "),
    "processes of MPICH": ({"PMI_SIZE": "3"}, "PMI_SIZE=3: mpirun has started 3 processes, "),
    "no number": ({"SLURM_PROCID": "x"}, "SLURM_PROCID: a launcher of processes sets it to a whole number, got 'x'"),
    "no number of tasks": ({"SLURM_STEP_NUM_TASKS": "2(x3)"}, "SLURM_STEP_NUM_TASKS: a launcher of processes sets it "),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in ALONE])
def test_one_process_of_a_cluster(name: str, commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    """Started once it is one process, whatever was asked of the cluster; its loggers take it for the first rank."""
    (tmp_path / "data").symlink_to(finished / "data")
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.touch(mode=0o755)
    path = f"{srun.parent}{os.pathsep}{os.environ['PATH']}"
    ended = commands.train(tmp_path, "schema.id=row_id", "logger.tensorboard=true", PATH=path, **ALONE[name])
    check(ended, 0, ends)
    assert ended.err == ""
    assert list((tmp_path / "out").glob("tensorboard/*events*"))


@pytest.mark.parametrize("name", REFUSED)
def test_several_processes_of_a_cluster(
    name: str, commands: Commands, finished: Path, tmp_path: Path, ends: Ends
) -> None:
    environ, line = REFUSED[name]
    (tmp_path / "data").symlink_to(finished / "data")
    ended = commands.train(tmp_path, "schema.id=row_id", **environ)
    check(ended, 2, ends)
    assert ended.said[0].startswith(line), ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
