"""Pruning by hand, and what the pruner of ``hparams_search=optuna`` saves on a real table."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sweep.test_kills import ROOT
from tests.sweep.test_ledger import HEADER

from tabstep.sweep.leaderboard import best_trial
from tabstep.sweep.ledger import Ledger, Trial, read_sweep
from tabstep.sweep.pruning import PruningRule, best_so_far
from tabstep.sweep.trial import TrialLink
from tabstep.training.stopping import Row


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


SEARCH = (
    "hparams_search=optuna",
    "hydra.sweeper.sampler=random",  # chooses the same values whatever is pruned
    "hydra.sweeper.n_trials=24",
    "model.width=choice(16,32,64)",
    "model.depth=range(1,4)",
    "data.batch_size=512",
    "model=mlp",
    "trainer=cpu",
    "trainer.max_epochs=20",
    "trainer.log_interval=0",
    "report=none",
)


def start(directory: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "train.py"), "-m", "data.builtin_rows=8000", *SEARCH, *overrides),
            *(f"paths.cache_dir={directory.parent}/cache", f"hydra.sweep.dir={directory}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def searches(directory: Path, **overrides: str) -> list[Ledger]:
    """Run several searches side by side, and return them."""
    running = [start(directory / name, text) for name, text in overrides.items()]
    try:
        said = [process.communicate(timeout=900)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * len(running), "".join(text[-3000:] for text in said)
    return [read_sweep(directory / name) for name in overrides]


@pytest.mark.slow
def test_pruning_saves_a_third_of_the_epochs_and_keeps_the_best(tmp_path: Path) -> None:
    whole, pruned = searches(tmp_path, whole="hydra.sweeper.pruner=none", pruned="hydra.sweeper.pruner=median")
    assert [trial.params for trial in pruned.trials] == [trial.params for trial in whole.trials]
    assert {trial.state for trial in whole.trials} == {"complete"}
    best, other = best_trial(pruned), best_trial(whole)
    assert best is not None
    assert other is not None
    assert (best.number, best.values, best.scores["test_auroc"]) == (
        other.number,
        other.values,
        other.scores["test_auroc"],
    )
    epochs = sum(trial.epochs for trial in pruned.trials) / sum(trial.epochs for trial in whole.trials)
    assert epochs <= 0.7
    for trial, full in zip(pruned.trials, whole.trials, strict=True):  # up to its end it is the same trial
        assert list(trial.curve) == list(full.curve)[: trial.epochs]


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
