"""One run on a cluster that is connected: Ray Train's group of workers, its lines, its value or its error."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tabstep.config.parse import to_dict
from tabstep.config.secrets import redacted
from tabstep.config.settings import LocalSettings, RaySettings, Settings
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.launch.ray.cluster import connected
from tabstep.launch.ray.relay import ERRORS, OUTPUT, Tail
from tabstep.launch.ray.resources import scaling, storage

POLL_SECONDS: Final = 0.2
_NAME: Final = "train"
"""Of the directory below ``ray/`` in which Ray Train keeps its notes."""


def run_on_ray(settings: Settings) -> float:
    """Run on a cluster, show what the run says, and return the objective's value.

    Raises:
        UserError: a worker found a mistake in the input, which it finds before anything else.
        RetryError: workers were lost more often than ``launch.max_failures``.
    """
    with connected(settings):
        fit = Fit(settings)
        fit.start()
        directory = storage(settings.paths.output_dir)
        tails = [Tail(directory / OUTPUT, sys.stdout), Tail(directory / ERRORS, sys.stderr)]
        while not fit.ended(POLL_SECONDS):
            for tail in tails:
                tail.show()
        for tail in tails:
            tail.show()
        return fit.value()


@dataclass
class Fit:
    """A run of Ray Train in a thread: in the main one it would take Ctrl-C for itself."""

    settings: Settings
    found: list[float] = field(default_factory=list, init=False)
    failed: list[BaseException] = field(default_factory=list, init=False)
    thread: threading.Thread = field(init=False)

    def start(self) -> None:
        """Let Ray start the workers."""
        directory = storage(self.settings.paths.output_dir)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.thread = threading.Thread(target=self._fit, daemon=True, name="fit")
        self.thread.start()

    def ended(self, seconds: float) -> bool:
        """Wait a while, and tell whether the run has ended."""
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def value(self) -> float:
        """Return the objective's value of a run that has ended, or raise what ended it."""
        if self.failed:
            raise meaning(self.failed[0], self.settings) from self.failed[0]
        return self.found[0]

    def _fit(self) -> None:
        try:
            self.found.append(float(trainer(self.settings).fit().return_value))
        except BaseException as error:  # noqa: BLE001 it is raised in the thread that asks for the value
            self.failed.append(error)


def trainer(settings: Settings) -> Any:
    """Return the trainer of Ray Train: its public ones for torch and Lightning would start a process group first."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from tabstep.launch.ray.loop import Failures, RankConfig, loop

    launch = settings.launch
    assert isinstance(launch, RaySettings)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    directory = storage(settings.paths.output_dir)
    return DataParallelTrainer(
        _bound(loop, task(settings)),
        backend_config=RankConfig(),
        scaling_config=ScalingConfig(**scaling(launch)),
        run_config=RunConfig(
            name=_NAME,
            storage_path=str(directory),
            failure_config=FailureConfig(max_failures=launch.max_failures),
            callbacks=[Failures(directory)],
        ),
    )


def _bound(function: Callable[[Mapping[str, Any]], float], told: Mapping[str, Any]) -> Callable[[], float]:
    """Return a function without arguments: what Ray is given as a configuration stands in its pages."""

    def train() -> float:
        return function(told)

    return train


def task(settings: Settings) -> dict[str, Any]:
    """Return what a worker is told: the configuration of a run on its machine, and what it cannot see there."""
    config = to_dict(replace(settings, launch=LocalSettings()))
    return {
        "config": config,
        "shown": redacted(config, os.environ),  # the secrets of this machine's environment are not the workers'
        "cwd": str(Path.cwd()),
        "logs": [str(storage(settings.paths.output_dir) / name) for name in (OUTPUT, ERRORS)],
        "checkpoints": marks(settings),
    }


def marks(settings: Settings) -> list[str]:
    """Return names and times of the checkpoints that are there: others are those of this command.

    A group of workers that is started again goes on from these, also where the first one was to begin anew.
    """
    found = settings.paths.checkpoints.glob("last-*.ckpt")
    return sorted(f"{path.name} {path.stat().st_mtime_ns}" for path in found)


def meaning(error: BaseException, settings: Settings) -> BaseException:
    """Return what an error of Ray Train means for a person."""
    from ray.train import ControllerError, WorkerGroupError

    from tabstep.launch.ray.loop import cause, described

    if isinstance(error, ControllerError):
        return cause(error.controller_failure)
    if not isinstance(error, WorkerGroupError):
        return error
    causes = {rank: cause(each) for rank, each in error.worker_failures.items()}
    own = [each for each in causes.values() if isinstance(each, UserError | RetryError | StoppedError)]
    if own:
        return own[0]
    launch = settings.launch
    assert isinstance(launch, RaySettings)
    lines = "; ".join(described(causes))
    return RetryError(f"launch.max_failures={launch.max_failures}: {lines}: the same command goes on")
