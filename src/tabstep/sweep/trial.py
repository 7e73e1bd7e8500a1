"""A run that is a trial: it reports each epoch to its sweep, and ends where its pruner says so.

A run is a trial when its directory holds ``trial.json``. What ends it early is a rule like any other, see ``pruning``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabstep.errors import UserError
from tabstep.run_files import MLFLOW
from tabstep.sweep.ledger import POINTER, PROGRESS, Direction, Trial, read_json, read_sweep
from tabstep.sweep.options import USUAL_EPOCHS
from tabstep.sweep.pruning import PRUNED, PruningRule, best_so_far
from tabstep.system.atomic_write import write_durably
from tabstep.training.stopping import Row

if TYPE_CHECKING:
    from tabstep.training.callbacks.when_to_save import Checkpointer
    from tabstep.training.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class TrialLink:
    """What a trial's directory says about the sweep: where it is, and what prunes the trial."""

    sweep: str  # relative to the trial's directory
    number: int
    sees: int
    pruner: str
    objective: str
    direction: Direction

    def write(self, directory: Path) -> None:
        """Make a directory that of a trial."""
        write_durably(directory / POINTER, json.dumps(vars(self), indent=1).encode())


def is_trial(directory: Path) -> bool:
    """Tell whether a run in this directory is a trial of a sweep."""
    return (directory / POINTER).is_file()


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a trial's record elsewhere says of its sweep.

    ``parent`` is the id of the sweep's run in MLflow, ``overrides`` are the values that differ between trials.
    """

    name: str | None = None
    study: str | None = None
    parent: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)


def family(directory: Path) -> Family | None:
    """Return what a run in this directory belongs to, None where it is no trial."""
    pointer = read_json(directory / POINTER)
    if not pointer:
        return None
    sweep = read_sweep(directory / pointer["sweep"])
    return Family(
        name=f"trial {pointer['number']}",
        study=sweep.header.study,
        parent=read_json(sweep.directory / MLFLOW).get("run_id"),
        overrides=sweep.trials[pointer["number"]].params,
    )


def attach(directory: Path, classifier: Classifier, checkpointer: Checkpointer, *, reports: bool) -> None:
    """Make a run in the directory of a trial report to its sweep; any other run is left as it is.

    Args:
        checkpointer: its rule gets the pruner's judgement.
        reports: whether this process writes: one rank does.

    Raises:
        UserError: the sweep's files cannot be read, or Optuna is missing.
    """
    file = directory / POINTER
    if not file.is_file():
        return
    try:
        pointer = TrialLink(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read: {error}: the sweep that made it writes it anew") from error
    judge = None
    if pointer.pruner != "none":
        max_epochs = checkpointer.stop_rule.max_epochs or USUAL_EPOCHS
        judge = PruningRule(pointer, read_sweep(directory / pointer.sweep), max_epochs)
        checkpointer.stop_rule = replace(checkpointer.stop_rule, judge=judge)
    if reports:
        classifier.epoch_listeners.append(lambda _row: _report(directory, pointer, classifier.progress.history, judge))


def _report(directory: Path, pointer: TrialLink, history: Sequence[Row], judge: PruningRule | None) -> None:
    """Write how far the trial is; the sweep reads it while the trial runs and after its end."""
    if judge is not None:
        judge(history)
    curve = best_so_far(history, pointer.objective)
    # after the judgement: what the pruner keeps with the trial may have changed by it
    memory = {} if judge is None else judge.memory
    write_durably(directory / PROGRESS, json.dumps({"curve": curve, "memory": memory}).encode())


def read_progress(directory: Path) -> dict[str, Any]:
    """Return ``curve`` and ``memory`` of a trial, empty ones before its first epoch has ended."""
    found = read_json(directory / PROGRESS)
    return {"curve": found.get("curve", []), "memory": found.get("memory", {})}


def trial_state(report: Mapping[str, Any]) -> str:
    """Return the state of a trial that has ended with this report."""
    return PRUNED if str(report.get("stop_reason", "")).startswith(PRUNED) else "complete"


def with_progress(trial: Trial, directory: Path) -> dict[str, Any]:
    """Return the fields of a trial that its progress tells."""
    progress = read_progress(directory)
    return {
        "curve": progress["curve"],
        "epochs": len(progress["curve"]),
        "memory": {**trial.memory, **progress["memory"]},
    }
