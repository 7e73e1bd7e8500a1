"""Validation of a sweep before its first trial: every mistake that can be known by then."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tabstep.config.overrides import check_overrides
from tabstep.config.settings import Settings
from tabstep.errors import ProblemsError, UserError
from tabstep.sweep.compose_trials import Composer, settings_of
from tabstep.sweep.distributions import ends
from tabstep.sweep.ledger import Header
from tabstep.sweep.space import Space

PASSWORD = re.compile(r"[^:/]+://[^/@]*:[^/@]+@")
MOST_JOBS, MOST_OPTIONS = 8, 24
"""Combinations up to which all of them are composed beforehand, which takes 0.15 s each; combinations of options."""
FREE = (
    "paths",
    "logger",
    "report",
    "launch",
    "resume",
    "tags",
    "callbacks.progress",
    "callbacks.checkpoint",
    "trainer.log_interval",
)
"""Keys that may change when a sweep goes on: no result hangs on them."""


def check_surroundings(config: DictConfig) -> None:
    """Refuse what would run the whole sweep several times, and a password in plain sight.

    Raises:
        UserError: torchrun started this process, or the storage's URL holds a password.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError(
            "-m: torchrun would run the whole sweep in each of its processes: start it without torchrun, and set "
            "trainer.devices, which each trial follows"
        )
    raw = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    storage = raw.get("storage") if isinstance(raw, dict) else None
    if isinstance(storage, str) and "${" not in storage and PASSWORD.match(storage):
        raise UserError(
            "hydra.sweeper.storage: holds a password, which would be written to every trial's directory: put the URL "
            "into an environment variable and give 'hydra.sweeper.storage=${oc.env:NAME}'"
        )


def check_space(space: Space, composer: Composer) -> list[Settings]:
    """Check each value of each dimension, then what they compose.

    Returns:
        The settings of a few trials that stand for all.

    Raises:
        ProblemsError: one line for every mistake.
    """
    problems = [
        f"{key}: {what}"
        for key, what in {
            "objective": "is what the trials are compared by: it cannot be swept",
            "paths.output_dir": "give one directory, hydra.sweep.dir: each trial has its own below it",
        }.items()
        if key in space.dimensions
    ]
    for key, dimension in space.dimensions.items():
        found, _ = check_overrides([f"{key}={text}" for text in ends(dimension)], composer.conf_dirs)
        # of a key that does not exist, once and not for each value
        problems += found[:1] if found and found[0].startswith(f"{key}: no such key") else found
    if problems:
        raise ProblemsError(list(dict.fromkeys(problems)))
    return _check_jobs(space, composer)


def uses_several_devices(settings: Settings) -> bool:
    """Tell whether a run may use more than one device of this machine."""
    trainer = settings.trainer
    return trainer.devices != 1 and not (trainer.devices == "auto" and trainer.accelerator == "cpu")


def _check_jobs(space: Space, composer: Composer) -> list[Settings]:
    problems: list[str] = []
    found: list[Settings] = []
    for params in sample(space, composer.conf_dirs):
        try:
            found.append(settings_of(composer.compose(space.overrides(params), 0)))
        except UserError as error:
            named = ", ".join(f"{key}={text}" for key, text in params.items())
            problems += [f"{problem} ({named})" if named else problem for problem in str(error).splitlines()]
    if problems:
        raise ProblemsError(list(dict.fromkeys(problems)))
    return found


def sample(space: Space, conf_dirs: Sequence[Path]) -> Iterator[dict[str, str]]:
    """Return values for a few trials: all combinations of a few; else those of the groups, and the last of all values.

    The value of a key is judged by itself before; what is composed matters most for the options of groups.
    """
    columns = {key: ends(dimension) for key, dimension in space.dimensions.items()}
    # the last of all values, which the combinations of groups alone may lack
    yield {key: texts[-1] for key, texts in columns.items()}
    if math.prod(len(texts) for texts in columns.values()) > MOST_JOBS:
        columns = {key: texts if _is_group(key, conf_dirs) else texts[:1] for key, texts in columns.items()}
    for row in itertools.islice(itertools.product(*columns.values()), MOST_OPTIONS):
        yield dict(zip(columns, row, strict=True))


def _is_group(key: str, conf_dirs: Sequence[Path]) -> bool:
    return any((directory / key.lstrip("+")).is_dir() for directory in conf_dirs)


def check_same(before: Header, now: Header) -> None:
    """Refuse to go on with another space, another objective or another configuration than the trials before.

    Raises:
        ProblemsError: one line for each difference.
    """
    problems = [
        f"hydra.sweep.dir: {key} was {old}, now it is {new}"
        for key, old, new in (
            *_differences(before.space, now.space, "not swept"),
            ("hydra.sweeper.objectives", list(before.objectives), list(now.objectives)),
            ("hydra.sweeper.directions", list(before.directions), list(now.directions)),
            *_differences(before.base, now.base, "not there"),
        )
        if old != new
    ]
    if problems:
        last = "hydra.sweep.dir: set these back to go on with the sweep there, or choose another directory for this one"
        raise ProblemsError([*problems, last])


def changed_advice(before: Header, now: Header) -> list[str]:
    """Return a note for each thing that may change while a sweep goes on, and has."""
    return [
        f"hydra.sweeper.{key} was {old}, from here on it is {new}"
        for key in ("sampler", "pruner", "seed")
        if (old := getattr(before, key)) != (new := getattr(now, key))
    ]


def fixed(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a result hangs on, by dotted key."""
    return {
        key: value
        for key, value in flat(base).items()
        if not any(key == free or key.startswith(f"{free}.") for free in FREE)
    }


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys.

    >>> flat({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], absent: str) -> list[tuple[str, Any, Any]]:
    return [(key, before.get(key, absent), now.get(key, absent)) for key in {**before, **now}]
