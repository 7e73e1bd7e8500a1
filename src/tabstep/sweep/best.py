"""The best trial as something to run again: a command line, and an option of the group ``experiment``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from tabstep.config.grammar import written
from tabstep.config.secrets import hidden, redacted
from tabstep.sweep.compose_trials import Composer
from tabstep.sweep.ledger import Trial
from tabstep.sweep.runners import THREADS
from tabstep.system.atomic_write import write_durably

BEST, FOLDER = "best.yaml", "experiment"
# where and how a run goes, not what it is: left to whoever runs the trial again
SKIPPED_GROUPS = ("hydra", "experiment", "hparams_search", "debug", "local", "paths", "launch", "logger", "report")
SKIPPED_KEYS = ("paths", "launch", "logger", "report", "resume")
PLACES = ("paths.output_dir=", "hydra.", "hparams_search=")


def command_line(trial: Trial, composer: Composer) -> str:
    """Return the command that runs a trial again, as one run in a new directory and with as many threads."""
    # sums differ in their last digits with the number of threads
    threads = [f"{THREADS}={os.environ[THREADS]}"] if THREADS in os.environ else []
    return shlex.join([*threads, *_program(composer), *standalone(trial.overrides, composer)])


def command_to_go_on(composer: Composer) -> str:
    """Return the command that goes on with a sweep: the one that began it, with its directory by name, no secrets."""
    # An interpolation stays as it was written: what it stands for may be a secret.
    given: Any = OmegaConf.to_container(composer.master.hydra.overrides, resolve=False)
    places = ("paths.output_dir=", "hydra.sweep.dir=", "hydra.mode=")
    kept = [text for text in [*given["hydra"], *given["task"]] if not text.startswith(places)]
    below = os.path.relpath(composer.sweep_dir)
    place = str(composer.sweep_dir) if below.startswith("..") else below
    # quoted where it has what the grammar of overrides gives a meaning
    directory = written(place) if set(place) & set("= ,'\"{}[]()") else place
    shown = hidden(redacted(kept, os.environ))
    return shlex.join([*_program(composer), "-m", *shown, f"paths.output_dir={directory}"])


def _program(composer: Composer) -> list[str]:
    """Return what the command line begins with."""
    program = Path(sys.argv[0]).name
    script = ["tabstep", "train"] if program == "tabstep" else ["python", program]
    return [*script, *(f"--config-dir={directory}" for directory in composer.extra_conf_dirs)]


def standalone(overrides: Sequence[str], composer: Composer) -> list[str]:
    """Return the overrides of a trial as one run has them: without the sweep's own, with what its option sets."""
    kept = [text for text in overrides if not text.startswith(PLACES)]
    without = _task(composer, kept)
    searched = _task(composer, [text for text in overrides if not text.startswith(PLACES[0])])
    return [*kept, *differing(without, searched)]


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return overrides that make the one configuration of the other."""
    return [f"{key}={written(value)}" for key, value in leaves(difference(before, after)).items()]


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


def _task(composer: Composer, overrides: Any) -> dict[str, Any]:
    config = composer.compose(list(overrides), 0).config
    return {key: value for key, value in config.items() if key not in SKIPPED_KEYS}
