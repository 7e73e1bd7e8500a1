"""A real search that is killed twice, against one that was left alone."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tabstep.sweep.leaderboard import best_trial
from tabstep.sweep.ledger import HEADER, Ledger, Trial, read_sweep

ROOT = Path(__file__).resolve().parents[2]
SEARCH = (
    "hparams_search=optuna",
    "hydra.sweeper.n_trials=20",
    "model.width=choice(16,32)",
    "model.depth=range(1,3)",
    "data.batch_size=1024",
    "model=mlp",
    "trainer=cpu",
    "trainer.max_epochs=6",
    "trainer.log_interval=0",
    "callbacks.checkpoint.every_n_steps=10",
    "report=none",
)
TWO = ("hydra/launcher=process", "hydra.launcher.n_jobs=2")


def start(directory: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """Start or continue the search; without a word on threads, so that each launcher gives what it gives."""
    cache = directory.parent / "cache"
    with open(directory.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "train.py"), "-m", "data.builtin_rows=8000", f"paths.cache_dir={cache}"),
                *(*SEARCH, *overrides, f"hydra.sweep.dir={directory}"),
            ],
            env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def ended(directory: Path) -> dict[int, Trial]:
    """Return the trials that are never to be run again, by number."""
    if not (directory / HEADER).is_file():
        return {}
    return {trial.number: trial for trial in read_sweep(directory).trials if trial.finished}


def kill(directory: Path, sweep: subprocess.Popen[bytes], after: int, seconds: float, *, trials_too: bool) -> None:
    """Kill a sweep some time after so many trials have ended: its process alone, or with those of its trials."""
    deadline = time.monotonic() + 400
    while len(ended(directory)) < after:
        assert sweep.poll() is None, directory.with_suffix(".log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(seconds)
    assert sweep.poll() is None, "it ended before it could be killed"
    processes = [psutil.Process(sweep.pid)]
    processes += processes[0].children(recursive=True) if trials_too else []
    for process in processes:
        process.kill()
    sweep.wait(60)


def outcome(ledger: Ledger, trial: Trial) -> list[Any]:
    """Return all that a trial came to, bit for bit, but for the time it took."""
    scores = {name: score for name, score in trial.scores.items() if name != "seconds"}
    weights = (ledger.path(trial) / "model" / "model.safetensors").read_bytes()
    return [trial.params, trial.state, trial.values, trial.curve, scores, hashlib.sha256(weights).hexdigest()]


@pytest.mark.slow
def test_twenty_trials_killed_twice_are_those_of_a_sweep_that_was_not(tmp_path: Path) -> None:
    """Two processes and two kills against one process and none; the second kill takes the trials with it."""
    chance = random.Random()
    killed = tmp_path / "killed"
    seen: dict[int, Trial] = {}
    for after, trials_too in ((chance.randint(1, 8), False), (chance.randint(9, 16), True)):
        kill(killed, start(killed, *TWO), after, chance.uniform(0, 4), trials_too=trials_too)
        seen |= {number: trial for number, trial in ended(killed).items() if number not in seen}
    assert start(killed, *TWO).wait(600) == 0, (tmp_path / "killed.log").read_text()
    found = read_sweep(killed)
    assert len(seen) >= 9
    assert {number: found.trials[number] for number in seen} == seen, "a trial that had ended was run again"

    whole = tmp_path / "whole"
    assert start(whole).wait(600) == 0, (tmp_path / "whole.log").read_text()
    expected = read_sweep(whole)
    assert [trial.finished for trial in found.trials] == [True] * 20
    assert [outcome(found, trial) for trial in found.trials] == [outcome(expected, trial) for trial in expected.trials]
    best, other = best_trial(found), best_trial(expected)
    assert best is not None
    assert other is not None
    assert (best.number, best.values) == (other.number, other.values)
    assert any(trial.state == "pruned" for trial in found.trials), "nothing was put to the test of pruning"
