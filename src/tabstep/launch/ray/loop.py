"""What Ray Train calls: the loop of each worker, the kind of its group, and a word on each failure."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ray.train import UserCallback
from ray.train.backend import Backend, BackendConfig

from tabstep.errors import UserError
from tabstep.launch.ray.relay import ERRORS

RANK: Final = "tabstep.run.ray_rank"
"""Module of the worker, by name: a launch knows no torch."""


def loop(task: Mapping[str, Any]) -> float:
    """Run one rank of the run and return the objective's value."""
    value: float = import_module(RANK).run_rank(task)
    return value


class RankBackend(Backend):  # type: ignore[misc]
    """Starts no process group: the run makes its own, as below torchrun, and sees the GPUs of its machine's ranks."""

    share_cuda_visible_devices = True


class RankConfig(BackendConfig):  # type: ignore[misc]
    """Names the class above to Ray Train."""

    @property
    def backend_cls(self) -> type[RankBackend]:
        """The class that Ray Train makes one of."""
        return RankBackend


class Failures(UserCallback):  # type: ignore[misc]
    """Tells of each failure of a worker; a person's mistake ends the run, for it would be the same again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, BaseException]) -> None:
        """Look at what the workers failed with, before Ray starts them again."""
        causes = {rank: cause(error) for rank, error in worker_exceptions.items()}
        for error in causes.values():
            if isinstance(error, UserError):
                raise error
        with open(self.directory / ERRORS, "a", encoding="utf-8") as stream:
            stream.writelines(f"launch=ray: {line}\n" for line in described(causes))


def cause(error: BaseException) -> BaseException:
    """Return what a worker's code raised, without what Ray wraps it in."""
    return getattr(error, "_base_exc", error)


def described(causes: Mapping[int, BaseException]) -> list[str]:
    """Return one line for each rank that failed, in their order.

    >>> described({1: MemoryError("no room"), 0: OSError()})
    ['rank 0: OSError: no reason is given', 'rank 1: MemoryError: no room']
    """
    lines = {rank: (str(error).strip() or "no reason is given").partition("\n")[0] for rank, error in causes.items()}
    return [f"rank {rank}: {type(causes[rank]).__name__}: {line}" for rank, line in sorted(lines.items())]
