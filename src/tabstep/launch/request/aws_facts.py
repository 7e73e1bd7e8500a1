"""AWS's facts as YAML beside this module (images, instances, prices, codes, keys): they change without us."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml


@functools.cache
def table(name: str) -> dict[str, Any]:
    """Return the table ``<name>.yaml``."""
    return read_table(Path(__file__).with_name(f"{name}.yaml"))


def read_table(path: Path) -> dict[str, Any]:
    """Read a table of one's own.

    Raises:
        OSError, yaml.YAMLError: it cannot be read.
    """
    data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data if isinstance(data, dict) else {}
