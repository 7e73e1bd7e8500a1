from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sweep.test_ledger import HEADER

from tabstep.errors import UserError
from tabstep.sweep.ledger import POINTER, PROGRESS, Ledger, Trial, create_sweep
from tabstep.sweep.pruning import PruningRule, best_so_far
from tabstep.sweep.trial import TrialLink, attach, trial_state
from tabstep.training.stopping import Row, StopRule


def peer(number: int, curve: Sequence[float | None], state: Any = "complete", memory: Any = None) -> Trial:
    values = [value for value in curve if value is not None][-1:]
    return Trial(
        number=number,
        state=state,
        params={},
        overrides=[],
        directory=str(number),
        curve=curve,
        values=values,
        memory=memory or {},
    )


def pointer(
    pruner: str, sees: int, number: int, *, direction: Literal["maximize", "minimize"] = "maximize"
) -> TrialLink:
    return TrialLink(sweep="..", number=number, sees=sees, pruner=pruner, objective="val_auroc", direction=direction)


def ledger_of(tmp_path: Path, trials: Sequence[Trial]) -> Ledger:
    return Ledger(tmp_path, HEADER, list(trials))


def history(values: Sequence[float]) -> list[Row]:
    return [{"epoch": index + 1, "val_auroc": value} for index, value in enumerate(values)]


curves = st.lists(st.floats(0.5, 1).map(lambda value: round(value, 3)), min_size=8, max_size=8)


@pytest.mark.parametrize(("max_epochs", "first"), [(8, 2), (10, 3), (40, 6), (99, 6)])
@settings(max_examples=40)
@given(peers=st.lists(curves, min_size=2, max_size=9), mine=curves)
def test_median_pruner_by_hand(max_epochs: int, first: int, peers: list[list[float]], mine: list[float]) -> None:
    """Ends at the first epoch after the warm-up whose best so far is below the median of the others there."""
    trials = [peer(index, list(np.maximum.accumulate(curve))) for index, curve in enumerate(peers)]
    expected = None
    for epoch in range(first, 9):
        median = statistics.median(float(trial.curve[epoch - 1] or 0) for trial in trials)
        if len(trials) >= 3 and max(mine[:epoch]) < median:
            expected = epoch
            break
    judge = PruningRule(pointer("median", len(trials), len(trials)), ledger_of(Path(), trials), max_epochs)
    found = next((e for e in range(1, 9) if judge(history(mine[:e])) is not None), None)
    assert found == expected
    again = PruningRule(pointer("median", len(trials), len(trials)), ledger_of(Path(), trials), max_epochs)
    assert again(history(mine)) == judge(history(mine))  # a resumed trial is judged alike


def test_losses_are_pruned_the_other_way_round(tmp_path: Path) -> None:
    trials = [peer(n, [0.3, 0.3, 0.3]) for n in range(5)]
    high = PruningRule(
        TrialLink(sweep="..", number=5, sees=5, pruner="median", objective="val_loss", direction="minimize"),
        ledger_of(tmp_path, trials),
        12,
    )
    rows = [{"val_loss": value} for value in (0.9, 0.5, 0.4)]
    assert high(rows) == "pruned by median: val_loss 0.4000 after epoch 3"


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_trials_that_are_not_seen_change_nothing(tmp_path: Path, pruner: str) -> None:
    trials = [peer(n, [0.6 + 0.01 * n] * 9, memory={"completed_rung_0": 0.6 + 0.01 * n}) for n in range(8)]
    verdicts = []
    for others in (trials, trials[:5], [*trials[:5], *(peer(n, [0.99] * 9) for n in range(5, 8))]):
        judge = PruningRule(pointer(pruner, 5, 8), ledger_of(tmp_path, others), 9)
        verdicts.append([judge(history([0.61] * epoch)) for epoch in range(1, 10)])
    assert verdicts[0] == verdicts[1] == verdicts[2]


def test_hyperband_prunes_what_is_behind_and_keeps_what_leads(tmp_path: Path) -> None:
    ended: list[int] = []
    trials: list[Trial] = []
    for number in range(20):
        level = 0.5 + 0.02 * ((7 * number) % 20)
        judge = PruningRule(pointer("hyperband", len(trials), number), ledger_of(tmp_path, trials), 27)
        epochs = next((e for e in range(1, 28) if judge(history([level] * e)) is not None), 28)
        epochs = min(epochs, 27)
        judge(history([level] * epochs))
        state = "pruned" if epochs < 27 else "complete"
        trials.append(peer(number, [level] * epochs, state, judge.memory))
        ended.append(epochs)
    assert sum(ended) < 0.7 * 20 * 27
    best = max(trials, key=lambda trial: trial.values[0])
    assert best.state == "complete"
    assert any("completed_rung_0" in trial.memory for trial in trials)


def test_nan_never_counts(tmp_path: Path) -> None:
    nan = float("nan")
    assert best_so_far([{"val_f1": nan}, {"val_f1": 0.2}, {"val_f1": nan}], "val_f1") == [None, 0.2, 0.2]
    trials = [peer(n, [0.3] * 4) for n in range(5)]
    judge = PruningRule(pointer("median", 5, 5), ledger_of(tmp_path, trials), 12)
    assert judge(history([nan, nan, nan])) == "pruned by median: val_auroc nan after epoch 3"


def run_of(directory: Path, reports: bool = True) -> tuple[Any, Any]:
    classifier = SimpleNamespace(epoch_listeners=[], progress=SimpleNamespace(history=[]))
    checkpointer = SimpleNamespace(stop_rule=StopRule(max_epochs=9))
    attach(directory, classifier, checkpointer, reports=reports)  # type: ignore[arg-type]
    return classifier, checkpointer


def test_a_run_that_is_no_trial_is_left_alone(tmp_path: Path) -> None:
    classifier, checkpointer = run_of(tmp_path)
    assert (classifier.epoch_listeners, checkpointer.stop_rule) == ([], StopRule(max_epochs=9))


@pytest.mark.parametrize("reports", [True, False])
def test_a_trial_reports_each_epoch_and_ends_where_it_is_told(tmp_path: Path, reports: bool) -> None:
    sweep = create_sweep(tmp_path, HEADER)
    for number in range(5):
        sweep.save(peer(number, [0.9] * 9))
    (tmp_path / "5").mkdir()
    pointer("median", 5, 5).write(tmp_path / "5")
    classifier, checkpointer = run_of(tmp_path / "5", reports)
    rows = history([0.5, 0.7, 0.6])
    reasons = []
    for row in rows:
        classifier.progress.history.append(row)
        for listener in classifier.epoch_listeners:
            listener(row)
        reasons.append(checkpointer.stop_rule.reason(classifier.progress.history, 0.0))
    assert reasons == [None, None, "pruned by median: val_auroc 0.7000 after epoch 3"]
    assert trial_state({"stop_reason": reasons[-1]}) == "pruned"
    assert (tmp_path / "5" / PROGRESS).exists() == reports
    if reports:
        assert json.loads((tmp_path / "5" / PROGRESS).read_text())["curve"] == [0.5, 0.7, 0.7]


def test_the_runs_own_rules_come_first(tmp_path: Path) -> None:
    rule = StopRule(max_epochs=2, judge=lambda rows: "pruned")
    assert rule.reason(history([0.5, 0.5]), 0.0) == "trainer.max_epochs=2 reached"
    assert rule.reason(history([0.5]), 0.0) == "pruned"
    assert rule.reason([], 0.0) is None
    assert trial_state({"stop_reason": "trainer.max_epochs=2 reached"}) == "complete"


def test_damaged_pointer(tmp_path: Path) -> None:
    (tmp_path / POINTER).write_text("{")
    with pytest.raises(UserError, match=r"trial.json: cannot be read"):
        run_of(tmp_path)
