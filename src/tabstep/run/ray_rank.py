"""A rank of a run on a Ray cluster: what torchrun tells its processes, from what Ray Train tells its workers."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch.distributed as dist
from ray.train import get_context
from ray.train.collective import broadcast_from_rank_zero
from ray.util import get_node_ip_address

from tabstep.config.parse import parse
from tabstep.config.settings import PathSettings, Settings
from tabstep.errors import UserError
from tabstep.system.locks import check_free

PATIENCE: Final = 60.0
"""Seconds for what is left of an earlier group of workers to end."""
_stores: Final[list[Any]] = []
"""As long as this process: ranks that end later may still ask it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A worker among those of its run, as Ray Train says."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node: int

    def variables(self, address: str, port: int, run: str) -> dict[str, str]:
        """Return the environment of such a process below torchrun, whose store is at ``address``.

        Raises:
            UserError: machines have different numbers of workers, as no run of torchrun has.
        """
        if self.rank != self.node * self.local_world_size + self.local_rank or self.world_size % self.local_world_size:
            raise UserError(
                f"launch.workers={self.world_size}: machine {self.node} has {self.local_world_size} of them, and each "
                "one must have as many: set launch.workers or launch.cpus_per_worker so that they are spread evenly"
            )
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "GROUP_RANK": str(self.node),
            "GROUP_WORLD_SIZE": str(self.world_size // self.local_world_size),
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
            # by these two, torch asks the store that is open, as below torchrun, and opens none
            "TORCHELASTIC_RUN_ID": run,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }


def run_rank(task: Mapping[str, Any]) -> float:
    """Run what ``launch.ray.fit.task`` tells, as one rank of it, and return the objective's value.

    Raises:
        UserError: the input is wrong, or this machine does not see what the others do.
    """
    settings = parse(task["config"])
    place = _place()
    with _shown(task["logs"], place.rank):
        _enter(task["cwd"], settings.paths)
        told = broadcast_from_rank_zero(_opened(settings, task) if place.rank == 0 else None)
        os.environ.update(place.variables(told["address"], told["port"], told["run"]))
        from tabstep.run.run import run

        return run(replace(settings, resume=told["resume"]), task["shown"])


def _place() -> Place:
    context = get_context()
    return Place(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        local_rank=context.get_local_rank(),
        local_world_size=context.get_local_world_size(),
        node=context.get_node_rank(),
    )


def _opened(settings: Settings, task: Mapping[str, Any]) -> dict[str, Any]:
    """Open the store that torchrun's agent would keep, and return what every rank has to know."""
    _wait_until_free(Path(settings.paths.output_dir))
    address = get_node_ip_address()
    # the others learn the address afterwards: to wait for them here would be for ever
    store = dist.TCPStore(address, 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    _stores.append(store)
    resume = resumed(settings, set(task["checkpoints"]))
    return {"address": address, "port": store.port, "run": secrets.token_hex(4), "resume": resume}


def resumed(settings: Settings, before: set[str]) -> str:
    """Return how to begin: as is asked for, or after workers were lost from the checkpoint that they left.

    Args:
        before: name and time of each checkpoint that was there when the command was given.
    """
    found = settings.paths.checkpoints.glob("last-*.ckpt")
    is_ours = any(f"{path.name} {path.stat().st_mtime_ns}" not in before for path in found)
    return "auto" if is_ours else settings.resume


def _enter(cwd: str, paths: PathSettings) -> None:
    """Let relative paths mean what they do where the command was given, and find storage that is not shared.

    Raises:
        UserError: this machine has not the directories of the command.
    """
    for directory in (cwd, paths.output_dir):
        if not Path(directory).is_dir():
            raise UserError(
                f"launch=ray: {get_node_ip_address()} has no directory {directory}: give the command where all "
                "machines of the cluster see its directory and paths.output_dir"
            )
    os.chdir(cwd)


def _wait_until_free(output: Path) -> None:
    """Wait for a worker that was lost to let go of its directory: its machine may notice later than this one."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            check_free(output)
        except UserError:
            if time.monotonic() > ends:
                raise
            time.sleep(1.0)
        else:
            return


@contextmanager
def _shown(logs: list[str], rank: int) -> Iterator[None]:
    """Let the lines of the first rank reach the command, through files that it reads."""
    if rank != 0:
        yield
        return
    # appended, as workers that are started again go on in them, and by lines, which the command reads as they come
    output, errors = (open(file, "a", encoding="utf-8", buffering=1) for file in logs)  # noqa: SIM115
    with ExitStack() as stack:
        stack.enter_context(output)
        stack.enter_context(errors)
        stack.enter_context(redirect_stdout(output))
        stack.enter_context(redirect_stderr(errors))
        try:
            yield
        finally:
            sys.stdout.flush()
