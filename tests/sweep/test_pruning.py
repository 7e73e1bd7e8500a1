"""What the pruner of ``hparams_search=optuna`` saves, on a real table: the same proposals with it and without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.sweep.test_kills import ROOT, TABLE

from tabstep.sweep.leaderboard import best_trial
from tabstep.sweep.ledger import Ledger, read_sweep

SEARCH = (
    "hparams_search=optuna",
    "hydra.sweeper.sampler=random",  # chooses the same values whatever is pruned
    "hydra.sweeper.n_trials=24",
    "model.width=choice(16,32,64)",
    "model.depth=range(1,4)",
    "data.batch_size=512",
    "trainer=cpu",
    "trainer.max_epochs=20",
    "trainer.log_interval=0",
)


def start(directory: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "train.py"), "-m", *TABLE, *SEARCH, *overrides),
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
