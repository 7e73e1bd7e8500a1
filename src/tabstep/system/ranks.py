"""Distributed ranks: the processes of one run, started by torchrun, by the user or by ourselves.

Our own children get the composed configuration as a file, never the command line: composing it again in each rank
could give each of them another output directory, or in a sweep other hyperparameters.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
import yaml

from tabstep.errors import EXIT_USER, RetryError, StoppedError, UserError

EXIT_FILE = "exit_code"


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of its run, as torchrun's variables say."""

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    launched: bool = False

    @property
    def num_nodes(self) -> int:
        """Number of machines, each with as many processes."""
        return self.world_size // self.local_world_size

    @property
    def node(self) -> int:
        """Number of this machine."""
        return self.rank // self.local_world_size

    @property
    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return self.rank % self.local_world_size


def current_ranks() -> Ranks:
    """Read torchrun's variables: they are its interface, and there is no other way to ask."""
    if not dist.is_torchelastic_launched():
        return Ranks()
    rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return Ranks(rank=rank, world_size=world, local_world_size=local, launched=True)


def open_store(timeout: timedelta) -> Any:
    """Connect to the store that torchrun keeps; what is asked of it waits as long as ``timeout``."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, is_master=False, timeout=timeout)  # type: ignore[attr-defined]


def agree_on(ranks: Ranks, name: str, value: str) -> str:
    """Return rank 0's value on every rank, through the store that torchrun keeps."""
    if ranks.world_size == 1:
        return value
    store = open_store(timedelta(minutes=5))
    if ranks.rank == 0:
        # get waits until rank 0 has set it
        store.set(f"tabstep/{name}", value)
    return str(store.get(f"tabstep/{name}"), "utf-8")


def run_ranks(config: dict[str, Any], devices: int, directory: Path) -> None:
    """Run ``devices`` processes of the run on this machine until all have ended.

    SIGTERM and SIGINT are passed on, so that the ranks save and stop.

    Raises:
        StoppedError: a signal came; the state is saved.
        UserError: a rank found a mistake in the input.
        RetryError: a rank was killed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file, exit_file = directory / "config.yaml", directory / EXIT_FILE
    exit_file.unlink(missing_ok=True)
    file.touch(mode=0o600)  # values of the environment may stand in it
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    # standalone takes a free port, so that two runs on one machine do not meet
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    # one thread is what torchrun would set by itself, with a warning; our own id lets the ranks end with us
    child = subprocess.Popen(
        [*command, "-m", "tabstep.run.worker", str(file), str(os.getpid())], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    received: list[int] = []

    def pass_on(signum: int, _frame: Any) -> None:
        received.append(signum)
        child.send_signal(signum)

    # a service tells the parent alone that a job is to stop
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = child.wait()
    finally:
        file.unlink(missing_ok=True)
        for number, handler in before.items():
            signal.signal(number, handler)
    # before the exit code, which of a child that was stopped says less
    if received:
        raise StoppedError(f"stopped by {signal.Signals(received[0]).name}: the same command goes on", received[0])
    if code:
        raise _rank_error(exit_file, devices)


def _rank_error(exit_file: Path, devices: int) -> Exception:
    # a rank that could say why has left its code; one that was killed could not
    what = f"trainer.devices={devices}: a rank"
    if not exit_file.exists():
        return RetryError(f"{what} was killed, perhaps for want of memory: the same command goes on")
    if exit_file.read_text(encoding="utf-8") == str(EXIT_USER):
        return UserError(f"{what} ended with the message above")
    return RetryError(f"{what} failed; its message stands above: the same command goes on")
