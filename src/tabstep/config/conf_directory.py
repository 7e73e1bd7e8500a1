"""The directory conf/: where it lies, and which options each of its groups has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PRIMARY = "train"
"""The configuration of a run, in conf/."""


def config_dir() -> Path:
    """Return conf/ of the checkout that this file lies in, else the copy inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent.parent / "conf"
    return checkout if (checkout / f"{PRIMARY}.yaml").is_file() else package / "conf"


def group_options(conf_dirs: Sequence[Path]) -> dict[str, list[str]]:
    """Return the option names of every group below the directories, Hydra's own groups left out."""
    found: dict[str, set[str]] = {}
    for directory in conf_dirs:
        for file in directory.rglob("*.yaml"):
            group = file.parent.relative_to(directory).as_posix()
            if group != "." and not group.startswith("hydra"):
                found.setdefault(group, set()).add(file.stem)
    return {group: sorted(options) for group, options in sorted(found.items())}


def options_of(group: str, conf_dirs: Sequence[Path]) -> list[str]:
    return sorted({file.stem for directory in conf_dirs for file in (directory / group).glob("*.yaml")})
