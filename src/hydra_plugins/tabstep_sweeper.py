"""What Hydra finds of tabstep's sweeps: ``hydra/sweeper=tabstep``, and ``hydra/launcher=`` for the kinds of trials.

Hydra imports this module at every start, ``--help`` included, so it imports nothing itself that Hydra has not. The
annotations of the dataclasses are read while this module is not yet in ``sys.modules``: they must not be text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional  # noqa: UP035 - OmegaConf 2.3 reads these

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SweeperConf:
    """Keys below ``hydra.sweeper``; ``tabstep.sweep.options`` says what they mean and checks them."""

    _target_: str = "hydra_plugins.tabstep_sweeper.TabstepSweeper"
    sampler: Optional[str] = None  # noqa: UP045
    pruner: str = "none"
    n_trials: Optional[int] = None  # noqa: UP045
    timeout: Optional[float] = None  # noqa: UP045
    max_failures: Optional[int] = None  # noqa: UP045
    seed: Optional[int] = None  # noqa: UP045
    storage: Optional[str] = None  # noqa: UP045
    retry_failed: bool = False
    objectives: Optional[List[str]] = None  # noqa: UP006, UP045
    directions: Optional[List[str]] = None  # noqa: UP006, UP045
    params: Dict[str, Any] = field(default_factory=dict)  # noqa: UP006


@dataclass
class ProcessConf:
    """Keys below ``hydra.launcher`` of the launcher that gives each trial a process."""

    _target_: str = "hydra_plugins.tabstep_sweeper.ProcessLauncher"
    n_jobs: int = 2


@dataclass
class SageMakerConf:
    """Keys below ``hydra.launcher`` of the launcher that makes a SageMaker job of each trial."""

    _target_: str = "hydra_plugins.tabstep_sweeper.SageMakerLauncher"
    max_parallel: int = 4
    max_usd: Optional[float] = None  # noqa: UP045


@dataclass
class RayConf:
    """Keys below ``hydra.launcher`` of the launcher that gives each trial workers of a Ray cluster."""

    _target_: str = "hydra_plugins.tabstep_sweeper.RayLauncher"
    max_parallel: int = 2


ConfigStore.instance().store(group="hydra/sweeper", name="tabstep", node=SweeperConf, provider="tabstep")
ConfigStore.instance().store(group="hydra/launcher", name="process", node=ProcessConf, provider="tabstep")
ConfigStore.instance().store(group="hydra/launcher", name="sagemaker", node=SageMakerConf, provider="tabstep")
ConfigStore.instance().store(group="hydra/launcher", name="ray_train", node=RayConf, provider="tabstep")


class TabstepSweeper(Sweeper):
    """Grids and searches that can be continued; the work is done in ``tabstep.sweep``."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what ``sweep`` needs."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run every trial that is still to be run."""
        from tabstep.sweep.run_sweep import start

        assert self.hydra_context is not None
        assert self.config is not None
        return start(self.options, arguments, self.hydra_context, self.task_function, self.config)


class ProcessLauncher(Launcher):
    """Gives each trial a process of its own, ``n_jobs`` at a time."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what ``launch`` needs."""
        self.hydra_context, self.config = hydra_context, config

    def runner(self, surroundings: Any) -> Any:
        """Return what starts and watches the processes for tabstep's sweeper, one by one."""
        from tabstep.sweep.runners import process_runner

        return process_runner(self.n_jobs, surroundings.descriptor)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch for another sweeper than tabstep's own, which starts the processes itself."""
        from tabstep.sweep.runners import launch_processes

        return launch_processes(self.hydra_context, self.config, job_overrides, initial_job_idx, self.n_jobs)


class SageMakerLauncher(Launcher):
    """Sends a SageMaker job for each trial, ``max_parallel`` at a time, for at most ``max_usd`` dollars in all."""

    def __init__(self, max_parallel: int, max_usd: Optional[float]) -> None:  # noqa: UP045
        self.max_parallel, self.max_usd = max_parallel, max_usd

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what ``launch`` needs."""
        self.hydra_context, self.config = hydra_context, config

    def runner(self, surroundings: Any) -> Any:
        """Return what sends and follows the jobs for tabstep's sweeper."""
        from tabstep.launch.sweeps.trials import job_runner

        return job_runner(self.max_parallel, self.max_usd, surroundings)

    def tune(self, handover: Any) -> Any:
        """Let the service's tuner run a whole sweep; ``max_parallel`` and ``max_usd`` are of all of its jobs."""
        from tabstep.launch.sweeps.tuning import tune

        return tune(handover, self.max_parallel, self.max_usd)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse: another sweeper could not tell the jobs of a sweep from those of the next one."""
        from tabstep.errors import UserError

        raise UserError("hydra/launcher=sagemaker: works with hydra/sweeper=tabstep alone")


class RayLauncher(Launcher):
    """Gives each trial workers of a Ray cluster, ``max_parallel`` trials at a time; another one is called ``ray``."""

    def __init__(self, max_parallel: int) -> None:
        self.max_parallel = max_parallel

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what ``launch`` needs."""
        self.hydra_context, self.config = hydra_context, config

    def runner(self, surroundings: Any) -> Any:
        """Return what starts and watches the trials for tabstep's sweeper."""
        from tabstep.launch.sweeps.ray_trials import ray_runner

        return ray_runner(self.max_parallel)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse: another sweeper could not go on with trials that were interrupted."""
        from tabstep.errors import UserError

        raise UserError("hydra/launcher=ray_train: works with hydra/sweeper=tabstep alone")
