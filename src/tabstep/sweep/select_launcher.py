"""Selects the launcher of the trials: the one that was asked for, or the one that they need."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from tabstep.config.settings import Settings
from tabstep.errors import UserError
from tabstep.sweep.delegated_sweep import Handover
from tabstep.sweep.options import Options
from tabstep.sweep.runner_interface import Runner, SweepContext
from tabstep.sweep.runners import HydraRunner, process_runner
from tabstep.sweep.validate import uses_several_devices

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
SAGEMAKER = "hydra_plugins.tabstep_sweeper.SageMakerLauncher"
RAY = "hydra_plugins.tabstep_sweeper.RayLauncher"
DEFAULTS = {"max_parallel": 4, "max_usd": None}
RAY_PARALLEL = 2
MANY = 2**31


@dataclass(frozen=True)
class LauncherFactory:
    """What Hydra makes a launcher of."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig

    @property
    def target(self) -> str:
        """The class of the launcher that was asked for."""
        return str(self.config.hydra.launcher.get("_target_"))

    def make(self, target: str | None = None, **options: Any) -> Any:
        """Make that launcher, or another one."""
        config = self.config
        if target is not None:
            config = copy.deepcopy(config)
            with read_write(config.hydra), open_dict(config.hydra):
                config.hydra.launcher = OmegaConf.create({"_target_": target, **options})
        return Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=config
        )


def launch_of(config: DictConfig) -> list[str]:
    """Return the override that says where the trials of a launcher run, as far as it tells that."""
    found = {SAGEMAKER: "launch=sagemaker", RAY: "launch=ray"}.get(str(config.hydra.launcher.get("_target_")))
    return [] if found is None else [found]


def hand_over(launcher: LauncherFactory, handover: Handover) -> list[float]:
    """Let the service's tuner do the whole sweep; return the objective of its best job where it is known.

    Raises:
        UserError: another launcher was asked for.
    """
    if launcher.target not in (BASIC, SAGEMAKER):
        raise UserError(
            "launch.tuner: the service starts the jobs: leave the launcher out, or set hydra/launcher=sagemaker, whose "
            "max_parallel and max_usd are the tuner's"
        )
    made = launcher.make() if launcher.target == SAGEMAKER else launcher.make(SAGEMAKER, **DEFAULTS)
    return cast(list[float], made.tune(handover))


def choose_runner(
    launcher: LauncherFactory, settings: Sequence[Settings], surroundings: SweepContext, options: Options
) -> Runner:
    """Return where the trials run.

    With Hydra's own launcher, trials that are jobs get a job each, those of a cluster share it, and trials that use
    several devices get a process each: their ranks read the composed configuration of their trial and cannot diverge.

    Args:
        settings: of a few trials that stand for all.
    """
    basic = launcher.target == BASIC
    if basic and any(each.launch.name == "sagemaker" for each in settings):
        print("hydra/launcher=sagemaker: chosen, for the trials are jobs")
        made = launcher.make(SAGEMAKER, **DEFAULTS)
    elif basic and any(each.launch.name == "ray" for each in settings):
        print("hydra/launcher=ray_train: chosen, for the trials run on a cluster")
        made = launcher.make(RAY, max_parallel=RAY_PARALLEL)
    elif basic and any(map(uses_several_devices, settings)):
        print("hydra/launcher=process: chosen, for a trial uses several devices")
        return process_runner(1, surroundings.descriptor)
    else:
        made = launcher.make()
    if hasattr(made, "runner"):  # one of tabstep's own, which take trials one by one
        return cast(Runner, made.runner(surroundings))
    logging.getLogger(type(made).__module__).setLevel(logging.WARNING)  # the sweep says what it starts
    jobs = launcher.config.hydra.launcher.get("n_jobs")
    # a grid is one batch; a search learns between batches
    batch = jobs if isinstance(jobs, int) and jobs > 0 else 1 if options.searches else MANY
    return HydraRunner(made, 1 if basic else batch)
