"""The trials of a sweep as runs on one cluster, each with workers of its own; Ray lets them wait for room."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from tabstep.config.parse import parse
from tabstep.config.settings import RaySettings
from tabstep.errors import UserError
from tabstep.launch.ray.cluster import check_room, connected
from tabstep.launch.ray.fit import Fit
from tabstep.launch.ray.resources import require
from tabstep.sweep.compose_trials import write_hydra_files
from tabstep.sweep.runner_interface import Job, TrialResult
from tabstep.sweep.runners import failed

POLL_SECONDS: Final = 0.2


@dataclass
class RayRunner:
    """Keeps ``slots`` trials on a cluster, which is connected with the first one.

    All of them end with this process, also when it is killed: Ray ends what a driver has started.
    """

    slots: int
    elsewhere: bool = False
    fits: dict[int, Fit] = field(default_factory=dict)
    cluster: ExitStack = field(default_factory=ExitStack)
    is_connected: bool = False

    def check(self, jobs: Sequence[Job]) -> None:
        """Do nothing: a trial is checked when it is composed."""

    def start(self, job: Job) -> None:
        """Let Ray start the workers of a trial; what they say goes to ``ray/`` in its directory.

        Raises:
            UserError: it is no run on a cluster, or the cluster cannot be had.
            RetryError: the cluster does not answer.
        """
        settings = parse({**job.config, "callbacks": {**job.config["callbacks"], "progress": "lines"}})
        if not isinstance(settings.launch, RaySettings):
            raise UserError("hydra/launcher=ray_train: the trials run on a cluster: add launch=ray")
        job.directory.mkdir(parents=True, exist_ok=True)
        write_hydra_files(job)
        if self.is_connected:
            check_room(settings.launch)
        else:
            self.cluster.enter_context(connected(settings, self.slots))
            self.is_connected = True
        fit = self.fits[job.number] = Fit(settings)
        fit.start()

    def wait(self, seconds: float) -> list[TrialResult]:
        """Look at the trials until one has ended or the time is over."""
        ends = time.monotonic() + seconds
        while self.fits and time.monotonic() < ends:
            if any(fit.ended(0.0) for fit in self.fits.values()):
                break
            time.sleep(POLL_SECONDS)
        ended = {number: fit for number, fit in self.fits.items() if fit.ended(0.0)}
        for number in ended:
            del self.fits[number]
        return [_result(number, fit) for number, fit in ended.items()]

    def stop(self) -> None:
        """End the trials that run, and with them a cluster of our own; each goes on from its checkpoint."""
        self.fits.clear()
        self.cluster.close()
        self.is_connected = False


def ray_runner(max_parallel: int) -> RayRunner:
    """Build the runner of a sweep.

    Raises:
        UserError: a number is out of range, or the extra is missing.
    """
    require()
    if max_parallel < 1:
        raise UserError(f"hydra.launcher.max_parallel: expected a whole number >= 1, got {max_parallel}")
    return RayRunner(max_parallel)


def _result(number: int, fit: Fit) -> TrialResult:
    try:
        return TrialResult(number=number, value=fit.value())
    except Exception as error:  # noqa: BLE001 whatever a trial fails with is its result
        return failed(number, error)
