"""Composes trials with Hydra: a trial's overrides in, its configuration and directory out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from tabstep.config.parse import parse
from tabstep.config.resolve import composition_problem, plain
from tabstep.config.settings import Settings
from tabstep.run_files import HYDRA
from tabstep.sweep.runner_interface import Job

HYDRA_FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")


@dataclass(frozen=True)
class Composer:
    """Composes the jobs of a sweep from its own configuration."""

    loader: ConfigLoader
    master: DictConfig

    @property
    def sweep_dir(self) -> Path:
        """The directory of the sweep, absolute."""
        return Path(str(self.master.hydra.sweep.dir)).absolute()

    @property
    def conf_dirs(self) -> list[Path]:
        """The directories that options are read from."""
        sources = self.master.hydra.runtime.config_sources
        found = [Path(source.path) for source in sources if source.schema == "file" and source.path]
        return [directory for directory in found if directory.is_dir()]

    @property
    def extra_conf_dirs(self) -> list[Path]:
        """What ``--config-dir`` named."""
        sources = self.master.hydra.runtime.config_sources
        return [Path(source.path) for source in sources if source.provider == "command-line"]

    def compose(self, overrides: Sequence[str], number: int) -> Job:
        """Compose a job.

        Raises:
            UserError: it cannot be composed.
        """
        try:
            cfg = self.loader.load_sweep_config(self.master, list(overrides))
            with read_write(cfg), open_dict(cfg):
                # as Hydra's own launchers do for each job
                cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
            with _current(cfg):
                directory = self.sweep_dir / str(cfg.hydra.sweep.subdir)
                with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
                    cfg.hydra.runtime.output_dir = str(directory)
                return Job(number, tuple(overrides), directory, _plain_task(cfg, directory), cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise composition_problem(error) from error

    def base(self) -> dict[str, Any]:
        """Return the configuration that the trials change."""
        with _current(self.master):
            return _plain_task(self.master, self.sweep_dir)


def write_hydra_files(job: Job) -> None:
    """Leave what Hydra's own launcher leaves of a job in its directory."""
    cfg = job.composed
    folder = job.directory / str(cfg.hydra.output_subdir or HYDRA)
    folder.mkdir(parents=True, exist_ok=True)
    task = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    for name, part in zip(
        HYDRA_FILES, (task, OmegaConf.masked_copy(cfg, "hydra"), cfg.hydra.overrides.task), strict=True
    ):
        (folder / name).write_text(OmegaConf.to_yaml(part), encoding="utf-8")


def settings_of(job: Job) -> Settings:
    """Check the configuration of a job.

    Raises:
        ProblemsError: it is wrong.
    """
    return parse(job.config)


def _plain_task(cfg: DictConfig, directory: Path) -> dict[str, Any]:
    # a copy: the whole is written into the trial's directory as Hydra leaves it
    task = copy.deepcopy(cfg)
    with read_write(task), open_dict(task):
        del task["hydra"]
    found = plain(task)
    found["paths"]["output_dir"] = str(directory)
    return found


@contextmanager
def _current(cfg: DictConfig) -> Iterator[None]:
    """Make ``${hydra:...}`` mean this configuration."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        # set_config refuses None, which it may have been
        HydraConfig.instance().cfg = before
