from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sweep.conftest import Runs

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.sweep.ledger import Header, Ledger, create_sweep
from tabstep.sweep.tracked_sweep import tracked_sweep
from tabstep.sweep.trial import family

ROOT = Path(__file__).resolve().parents[2]
Sweep = Callable[..., int]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return mlflow.MlflowClient(str(tmp_path / "store"))


def all_runs(client: Any) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name("tabstep").experiment_id]))


def logged_to(tmp_path: Path) -> list[str]:
    return ["logger=mlflow", f"logger.mlflow.tracking_uri={tmp_path / 'store'}"]


def test_a_sweep_is_one_run_also_when_it_was_stopped(
    sweep: Sweep, runs: Runs, tmp_path: Path, client: Any, ledger: Callable[[], Ledger]
) -> None:
    def stop(settings: Settings, number: int) -> None:
        if number == 1 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt

    runs.before = stop
    overrides = ["optimizer.lr=1e-3,3e-3,5e-3", *logged_to(tmp_path)]
    assert sweep(*overrides) == 130
    (first,) = all_runs(client)
    assert first.info.status == "KILLED"
    assert sweep(*overrides) == 0
    (found,) = all_runs(client)
    assert (found.info.run_id, found.info.status, found.info.run_name) == (first.info.run_id, "FINISHED", "s")
    assert found.data.params["space.optimizer.lr"] == ledger().header.space["optimizer.lr"]
    best = max(trial.values[0] for trial in ledger().trials)
    assert found.data.metrics == {"best_val_auroc": best, "trials": 3.0}
    assert {"leaderboard.csv", "report.html"} <= {each.path for each in client.list_artifacts(found.info.run_id)}
    end = found.info.end_time
    assert sweep(*overrides) == 0
    assert all_runs(client)[0].info.end_time == end


def test_trials_elsewhere_are_told_their_relatives(tmp_path: Path, client: Any) -> None:
    header = Header(
        objectives=["val_auroc"],
        directions=["maximize"],
        space={"seed": "1,2"},
        sampler="all",
        pruner="none",
        seed=1,
        study="tabstep-1a2b",
    )
    ledger = create_sweep(tmp_path, header)
    settings = [parse(composed([*logged_to(tmp_path), "logger.wandb.enabled=true"], [config_dir()]))]
    (tmp_path / "leaderboard.csv").write_text("rank\n")
    with tracked_sweep(ledger, settings) as links:
        found = parse(composed(links, [config_dir()])).logger
    assert (found.mlflow.parent, found.wandb.group) == (all_runs(client)[0].info.run_id, "tabstep-1a2b")
    with tracked_sweep(ledger, [parse(composed([], [config_dir()]))]) as links:
        assert links == []


def test_a_run_that_is_no_trial_has_no_relatives(tmp_path: Path) -> None:
    assert family(tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=process", "hydra.launcher.n_jobs=2"]])
def test_trials_are_children(tiny_data: Path, tmp_path: Path, client: Any, launcher: list[str]) -> None:
    small = ["model.width=4", "model.depth=1", "model.num_bins=0", "trainer=cpu", "trainer.max_epochs=1"]
    places = [f"data.path={tiny_data}", f"paths.cache_dir={tmp_path / 'cache'}", f"hydra.sweep.dir={tmp_path / 's'}"]
    roles = ["schema.label=label", "schema.id=row_id", "optimizer=adamw", "optimizer.lr=1e-3,3e-3", *launcher]
    command = [sys.executable, "train.py", "-m", *small, *places, *roles, *logged_to(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    found = {run.info.run_name: run for run in all_runs(client)}
    assert found.keys() == {"s", "trial 0", "trial 1"}
    children = [found["trial 0"], found["trial 1"]]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {found["s"].info.run_id}
    assert [run.data.params["optimizer.lr"] for run in children] == ["0.001", "0.003"]
    assert {run.info.status for run in found.values()} == {"FINISHED"}
