"""Composing without running: to check a configuration before a run makes its directory, and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from tabstep.config.resolve import plain


def composed(overrides: Sequence[str], conf_dirs: Sequence[Path], *, name: str = "train") -> dict[str, Any]:
    """Compose the configuration of one run and return it as plain containers, ready for ``parse``.

    Args:
        overrides: As on the command line, without a sweep.
        conf_dirs: The directory of the primary configuration, then those that add options to its groups.
        name: The primary configuration.

    Raises:
        HydraException, OmegaConfBaseException: it cannot be composed.
    """
    cfg = _compose(overrides, conf_dirs, name)
    with read_write(cfg), open_dict(cfg):
        cfg.hydra.runtime.output_dir = "."  # a run knows these; here nothing hangs on their values
        cfg.hydra.job.num = 0
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    return plain(cfg)


def composed_sweeper(overrides: Sequence[str], conf_dirs: Sequence[Path]) -> dict[str, Any]:
    """Compose what stands below ``hydra.sweeper``: how a sweep is run, and the ranges of an option.

    Raises:
        HydraException, OmegaConfBaseException: it cannot be composed.
    """
    cfg = _compose(overrides, conf_dirs, "train")
    found = OmegaConf.to_container(cfg.hydra.sweeper, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _compose(overrides: Sequence[str], conf_dirs: Sequence[Path], name: str) -> DictConfig:
    main, *others = (directory.resolve() for directory in conf_dirs)
    search = [f"hydra.searchpath=[{','.join(f'file://{directory}' for directory in others)}]"] if others else []
    with initialize_config_dir(str(main), version_base="1.3"):
        return compose(name, overrides=[*search, *overrides], return_hydra_config=True)
