"""Hydra reads and parses each file of a configuration anew for every composition; tests compose thousands of times."""

from __future__ import annotations

import copy
import functools
import os
from pathlib import Path
from typing import Any

import hydra.version
from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType


def read_once() -> None:
    """Let this process read a file of a configuration once, and again when it has changed."""
    load, kept = ConfigRepository.load_config, dict[Any, Any]()

    def load_once(repository: Any, config_path: str) -> Any:
        source = repository._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() not in ("file", "pkg"):
            return load(repository, config_path)
        state = None
        if source.scheme() == "file":
            found = os.stat(Path(source.path, source._normalize_file_name(config_path)))
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
        key = (source.scheme(), source.provider, os.path.realpath(source.path), config_path, state)
        if key not in kept:
            kept[key] = load(repository, config_path)
        return copy.deepcopy(kept[key])

    ConfigRepository.load_config = load_once
    hydra.version._get_version = functools.cache(hydra.version._get_version)
