"""Tables on this machine that are not there: found before a run makes its directory, and without pyarrow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tabstep.errors import nearest

if TYPE_CHECKING:  # served models carry this module, and no settings
    from tabstep.config.settings import DataSettings

_NO_PLAIN_PATH = re.compile(r"^[a-z][a-z0-9+.-]+://|[*?\[]")


def missing_tables(data: DataSettings) -> list[str]:
    """Return one line for each location below ``data`` that is a plain path to nothing.

    What a reader of another package calls a location may be none: it says so itself.
    """
    problems: list[str] = []
    if data.reader.name != "default":
        return problems
    for key in ("path", "train", "val", "test"):
        location = getattr(data, key)
        if location is None or _NO_PLAIN_PATH.search(location):
            continue
        path = os.path.abspath(os.path.expanduser(location))
        # a link that leads nowhere is there: whoever opens it says what is wrong
        if not os.path.lexists(path):
            what = "directory" if key == "path" else "file or directory"
            problems.append(f"data.{key}: no such {what}: {location}{near_path(path)}")
    return problems


def near_path(path: str) -> str:
    """Return the part of an error that names the nearest of what lies beside a path that is not there."""
    parent = Path(path).parent
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() and os.access(parent, os.R_OK) else []
    return f": {nearest(Path(path).name, names)}" if names else ""
