"""What the processes of trials really train, seen from inside each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabstep.sweep.ledger import read_sweep

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("trainer.max_epochs=2", "trainer.log_interval=0", "model.width=16", "model.depth=1", "schema.label=label")
SEARCH = (
    "hydra.sweeper.sampler=random",
    "hydra.sweeper.n_trials=2",
    "optimizer.lr=tag(log, interval(1e-4, 1e-1))",
    "model.dropout=interval(0, 0.5)",
)


def sweep(data: Path, directory: Path, *overrides: str) -> tuple[str, dict[str, Any]]:
    """Run a sweep whose processes are watched; return what it printed, and what each rank of each trial trained."""
    (directory / "watch").mkdir()
    (directory / "path").mkdir()
    (directory / "path" / "sitecustomize.py").write_text((Path(__file__).parent / "watch.py").read_text())
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "train.py"), "-m", f"data.path={data}", f"paths.cache_dir={directory}/cache"),
            *(*SMALL, *SEARCH, f"hydra.sweep.dir={directory}/s", *overrides),
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory / "path"), "WATCH": str(directory / "watch")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout, {file.stem: json.loads(file.read_text()) for file in (directory / "watch").iterdir()}


@pytest.mark.slow
def test_two_ranks_train_one_trial(tiny_data: Path, tmp_path: Path) -> None:
    said, ranks = sweep(tiny_data, tmp_path, "trainer=ddp_sim")
    assert "hydra/launcher=process: chosen, for a trial uses several devices" in said
    trials = read_sweep(tmp_path / "s").trials
    assert sorted(ranks) == ["0-0", "0-1", "1-0", "1-1"]
    assert [trial.state for trial in trials] == ["complete", "complete"]
    for trial in trials:
        one, other = ranks[f"{trial.number}-0"], ranks[f"{trial.number}-1"]
        assert one["digest"] == other["digest"]
        assert one["lr"] == other["lr"] == float(trial.params["optimizer.lr"])
        assert one["world_size"] == other["world_size"] == 2
    assert ranks["0-0"]["lr"] != ranks["1-0"]["lr"]
    assert ranks["0-0"]["digest"] != ranks["1-0"]["digest"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "process"])
def test_second_trial_starts_within_a_second(tiny_data: Path, tmp_path: Path, launcher: str) -> None:
    """Of CPU time after its imports: what trials share is made once, and the second one finds it."""
    one_by_one = ["hydra.launcher.n_jobs=1"] if launcher == "process" else []
    _, ranks = sweep(tiny_data, tmp_path, "trainer=cpu", f"hydra/launcher={launcher}", *one_by_one)
    assert ranks["1-0"]["cpu_seconds"] < 1.0
    built = [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.stat().st_size]
    second = read_sweep(tmp_path / "s").trials[1]
    began = (tmp_path / "s" / second.directory / "trial.json").stat().st_mtime
    assert built
    assert all(file.stat().st_mtime <= began for file in built), "encoded anew"
