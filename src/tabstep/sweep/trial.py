"""A run that is a trial: it reports each epoch to its sweep, and ends where its pruner says so.

A run is a trial when its directory holds ``trial.json``. What ends it early is a rule like any other: a pure function
of its history and of trials that had ended before it began. So a resumed trial is pruned at the same epoch, and all
ranks of a trial agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabstep.errors import UserError
from tabstep.log_lines import number
from tabstep.sweep.ledger import POINTER, PROGRESS, Direction, Ledger, Trial, finite, read_json, read_sweep
from tabstep.sweep.options import USUAL_EPOCHS
from tabstep.system.atomic_write import write_durably
from tabstep.training.stopping import Row, is_better

if TYPE_CHECKING:
    from tabstep.training.callbacks.checkpointing import Checkpointer
    from tabstep.training.classifier import Classifier

PRUNED = "pruned"
"""How the stop reason of a pruned trial begins."""


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


def best_so_far(history: Sequence[Mapping[str, float]], objective: str) -> list[float | None]:
    """Return the best score up to each epoch: what the trial would score if it ended there.

    >>> best_so_far([{"val_f1": 0.5}, {"val_f1": 0.4}, {"val_f1": 0.6}], "val_f1")
    [0.5, 0.5, 0.6]
    """
    curve: list[float | None] = []
    best = float("nan")
    for row in history:
        value = row.get(objective, float("nan"))
        best = value if is_better(value, best, objective) else best
        curve.append(finite(best))
    return curve


class PruningRule:
    """Says whether a pruner would end a trial with a given history, as a reason or None.

    Args:
        ledger: of the sweep; the first ``pointer.sees`` trials have ended.
    """

    def __init__(self, pointer: TrialLink, ledger: Ledger, max_epochs: int) -> None:
        from tabstep.sweep import optuna_study as advice

        self.pointer = pointer
        self.asked = 0
        self.verdict: str | None = None
        unseen = advice.optuna.trial.create_trial(state=advice.TrialState.FAIL)
        with advice.quiet():
            self.pruner = advice.make_pruner(pointer.pruner, max_epochs)
            seen = [advice.frozen(trial, {}) for trial in ledger.trials[: pointer.sees]]
            hidden = [unseen] * (pointer.number - len(seen))
            self.study = advice.make_study([*seen, *hidden], [pointer.direction], pruner=self.pruner)
            self.trial_id = self.study.ask()._trial_id

    @property
    def memory(self) -> dict[str, Any]:
        """What the pruner keeps with the trial, for later ones."""
        return dict(self.study._storage.get_trial_system_attrs(self.trial_id))

    def __call__(self, history: Sequence[Row]) -> str | None:
        """PruningRule the epochs that are new since the last call."""
        from tabstep.sweep import optuna_study as advice

        curve = best_so_far(history, self.pointer.objective)
        storage = self.study._storage
        while self.verdict is None and self.asked < len(curve):
            value = curve[self.asked]
            self.asked += 1
            storage.set_trial_intermediate_value(self.trial_id, self.asked, float("nan") if value is None else value)
            with advice.quiet():
                if self.pruner.prune(self.study, storage.get_trial(self.trial_id)):
                    shown = "nan" if value is None else number(value)
                    self.verdict = (
                        f"{PRUNED} by {self.pointer.pruner}: {self.pointer.objective} {shown} after epoch {self.asked}"
                    )
        return self.verdict


def _report(directory: Path, pointer: TrialLink, history: Sequence[Row], judge: PruningRule | None) -> None:
    """Write how far the trial is; the sweep reads it while the trial runs and after its end."""
    if judge is not None:
        judge(history)
    curve = best_so_far(history, pointer.objective)
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
