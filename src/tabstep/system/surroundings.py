"""What a shell or a launcher of processes gives a command to start with: variables of ranks, and a directory."""

from __future__ import annotations

import os
from typing import Final

from tabstep.errors import UserError

_TASKS: Final = {"SLURM_STEP_NUM_TASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpirun"}
"""What a launcher that knows nothing of the ranks of a run tells each process that it starts: how many they are."""


def check_surroundings() -> None:
    """Refuse what is of no use: below, each library would fail in its own way.

    Raises:
        UserError: a variable of a launcher is no number, this is one of several processes that are not told of each
            other, or the working directory is gone.
    """
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", *_TASKS):
        text = os.environ.get(name, "0")
        if not (text.isascii() and text.isdecimal()):
            raise UserError(f"{name}: a launcher of processes sets it to a whole number, got {text!r}: unset it")
    _check_alone()
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the directory that this command runs in has been removed: change to another one") from error


def _check_alone() -> None:
    """Refuse to be one of several processes that are not told of each other: each would train in the same directory.

    A terminal that ``srun --pty`` has opened is one of its tasks; what is started there is started once.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PTY_PORT" in os.environ:
        return
    for name, launcher in _TASKS.items():
        if (count := int(os.environ.get(name, "1"))) > 1:
            raise UserError(
                f"{name}={count}: {launcher} has started {count} processes, and each would train alone: let it start "
                f"torchrun once on each machine, as docs/devices.md shows, or unset {name} where each is a run of its "
                "own"
            )
