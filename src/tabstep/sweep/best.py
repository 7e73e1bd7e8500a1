"""The best trial as something to run again: a command line, and an option of the group ``experiment``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tabstep.durable import write_durably
from tabstep.sweep.jobs import Composer
from tabstep.sweep.ledger import Trial

BEST, FOLDER = "best.yaml", "experiment"
SKIPPED_GROUPS = ("hydra", "experiment", "hparams_search", "debug", "local", "paths", "launch", "logger")
SKIPPED_KEYS = ("paths", "launch", "logger", "resume")
PLACES = ("paths.output_dir=", "hydra.", "hparams_search=")


def command_line(trial: Trial, composer: Composer) -> str:
    """Return the command that runs a trial again, as one run in a new directory."""
    program = Path(sys.argv[0]).name
    script = ["tabstep", "train"] if program == "tabstep" else ["python", program]
    overrides = [text for text in trial.overrides if not text.startswith(PLACES)]
    extra = [f"--config-dir={directory}" for directory in composer.extra_conf_dirs]
    without = _task(composer, [*overrides])
    searched = _task(composer, [text for text in trial.overrides if not text.startswith(PLACES[0])])
    set_by_search = [f"{key}={as_override(value)}" for key, value in leaves(difference(without, searched)).items()]
    return shlex.join([*script, *extra, *overrides, *set_by_search])


def write_best(trial: Trial, composer: Composer, directory: Path) -> Path:
    """Write ``best.yaml``, also where ``--config-dir SWEEP experiment=best`` finds it; return the first."""
    text = best_yaml(trial, composer).encode()
    (directory / FOLDER).mkdir(exist_ok=True)
    write_durably(directory / FOLDER / BEST, text)
    write_durably(directory / BEST, text)
    return directory / BEST


def best_yaml(trial: Trial, composer: Composer) -> str:
    """Return an experiment that composes to what the trial was: its options, then the values that they lack."""
    cfg = composer.loader.load_sweep_config(composer.master, list(trial.overrides))
    plain = composer.loader.load_sweep_config(composer.master, [])
    chosen = {
        group: option
        for group, option in cfg.hydra.runtime.choices.items()
        if group.partition("/")[0] not in SKIPPED_GROUPS and option != plain.hydra.runtime.choices.get(group)
    }
    base = _task(composer, [f"{group}={option}" for group, option in chosen.items()])
    values = difference(base, _task(composer, trial.overrides))
    lines = ["# @package _global_", f"# Trial {trial.number} of a sweep."]
    if chosen:
        lines += ["defaults:", *(f"  - override /{group}: {option}" for group, option in chosen.items())]
    body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else ""
    return "\n".join([*lines, "", body]).rstrip() + "\n"


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``after`` has that ``before`` has not, in its nested shape.

    >>> difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    {'a': {'c': 3}}
    """
    found: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := difference(old, value):
                found[key] = inner
        elif key not in before or value != old:
            found[key] = value
    return found


def leaves(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def as_override(value: Any) -> str:
    """Write a plain value as it stands behind the ``=`` of an override."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(as_override, value))}]"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _task(composer: Composer, overrides: Any) -> dict[str, Any]:
    config = composer.compose(list(overrides), 0).config
    return {key: value for key, value in config.items() if key not in SKIPPED_KEYS}
