"""Whether a trial is ended early, by Optuna's pruners: a pure function of its history and of ended trials.

So a resumed trial is pruned at the same epoch, and all ranks of a trial agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tabstep.log_lines import number
from tabstep.sweep.ledger import Ledger, finite
from tabstep.training.stopping import Row, is_better

if TYPE_CHECKING:
    from tabstep.sweep.trial import TrialLink

PRUNED = "pruned"
"""How the stop reason of a pruned trial begins."""


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
        # in the place of trials that it does not see: Hyperband goes by a trial's number
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
        """Judge the epochs that are new since the last call."""
        from tabstep.sweep import optuna_study as advice

        curve = best_so_far(history, self.pointer.objective)
        storage = self.study._storage
        # epoch by epoch, as it was asked while they ran: a resumed trial is judged the same
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
