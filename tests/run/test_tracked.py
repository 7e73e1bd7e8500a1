from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import RetryError, UserError
from tabstep.run.run import run
from tabstep.run.tracked import exported_scores

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["model.width=4", "model.depth=1", "model.num_bins=0", "trainer=cpu", "report=none", "callbacks.progress=none"]
ROLES = ["schema.label=label", "schema.id=row_id"]


def overrides(data: Path, output: Path, store: Path | str, *more: str) -> list[str]:
    places = [f"data.path={data}", f"paths.cache_dir={output.parent / 'cache'}", f"paths.output_dir={output}"]
    chosen = ["logger=mlflow", f"logger.mlflow.tracking_uri={store}", "trainer.max_epochs=2"]
    return [*SMALL, *ROLES, *places, *chosen, *more]


def tracked_run(data: Path, output: Path, store: Path | str, *more: str) -> None:
    config = composed(overrides(data, output, store, *more), [config_dir()])
    run(parse(config), config)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return mlflow.MlflowClient(str(tmp_path / "store"))


def only_run(client: Any, experiment: str = "tabstep") -> Any:
    (found,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return found


def history(client: Any, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in client.get_metric_history(run_id, key)]


def test_a_run_is_in_mlflow_as_it_is_on_disk(tiny_data: Path, tmp_path: Path, client: Any) -> None:
    extra = "callbacks.extra=[{name: 'lightning.pytorch.callbacks:LearningRateMonitor'}]"
    output = tmp_path / "run"
    tracked_run(tiny_data, output, tmp_path / "store", "tags=[a, b]", "report=default", extra)
    found = only_run(client)
    report = json.loads((output / "report.json").read_text())
    assert found.info.status == "FINISHED"
    assert (found.info.run_name, found.data.tags["tabstep.tags"]) == ("run", "a,b")
    assert (found.data.params["model.width"], found.data.params["trainer.max_epochs"]) == ("4", "2")
    assert [step for step, _ in history(client, found.info.run_id, "val_auroc")] == [1, 2]
    assert history(client, found.info.run_id, "best_val_auroc") == [(report["best_epoch"], report["val_auroc"])]
    assert found.data.metrics["test_auroc"] == report["test_auroc"]
    assert any(key.startswith("lr-") for key in found.data.metrics)
    assert {each.path for each in client.list_artifacts(found.info.run_id)} == {"model", "report.html", "report.json"}
    assert "model/model.safetensors" in [each.path for each in client.list_artifacts(found.info.run_id, "model")]


def test_the_same_command_goes_on_in_the_same_run(tiny_data: Path, tmp_path: Path, client: Any) -> None:
    tracked_run(tiny_data, tmp_path / "run", tmp_path / "store", "logger.mlflow.model=false")
    first = only_run(client)
    tracked_run(tiny_data, tmp_path / "run", tmp_path / "store", "logger.mlflow.model=false")
    assert only_run(client).info.end_time == first.info.end_time
    tracked_run(tiny_data, tmp_path / "run", tmp_path / "store", "trainer.max_epochs=3", "logger.mlflow.model=false")
    second = only_run(client)
    assert [step for step, _ in history(client, second.info.run_id, "val_loss")] == [1, 2, 3]
    assert second.data.tags["resumed.trainer.max_epochs"] == "3"
    assert [each.path for each in client.list_artifacts(second.info.run_id)] == ["report.json"]


def test_a_run_that_begins_anew_is_another_one(tiny_data: Path, tmp_path: Path, client: Any) -> None:
    for resume in ("auto", "never"):
        tracked_run(tiny_data, tmp_path / "run", tmp_path / "store", "trainer.max_epochs=1", f"resume={resume}")
    assert len(client.search_runs([client.get_experiment_by_name("tabstep").experiment_id])) == 2


def test_a_mistake_during_the_training_is_a_failed_run(tiny_data: Path, tmp_path: Path, client: Any) -> None:
    with pytest.raises(UserError, match="fail_above_grad_norm"):
        tracked_run(tiny_data, tmp_path / "run", tmp_path / "store", "callbacks.fail_above_grad_norm=1e-9")
    assert only_run(client).info.status == "FAILED"


def test_a_mistake_in_the_tables_is_no_run_at_all(tiny_data: Path, tmp_path: Path, client: Any) -> None:
    with pytest.raises(UserError, match="nothing"):
        tracked_run(tiny_data, tmp_path / "run", tmp_path / "store", "schema.label=nothing")
    assert client.get_experiment_by_name("tabstep") is None


def test_a_server_that_is_not_there_is_told_before_the_tables_are_read(tmp_path: Path, client: Any) -> None:
    with pytest.raises(RetryError, match="does not answer"):
        tracked_run(tmp_path / "no tables", tmp_path / "run", "http://127.0.0.1:9")


def test_secrets_are_no_parameters(tiny_data: Path, tmp_path: Path, client: Any) -> None:
    own = "logger.extra=[{name: 'lightning.pytorch.loggers:CSVLogger', save_dir: '${paths.output_dir}'}]"
    config = composed(
        overrides(tiny_data, tmp_path / "run", tmp_path / "store", "trainer.max_epochs=1", own), [config_dir()]
    )
    config["logger"]["mlflow"]["tags"] = {"api_key": "hunter22"}
    run(parse(config), config)
    params = only_run(client).data.params
    assert params["logger.mlflow.tags.api_key"] == "***"
    assert "hunter22" not in str(params)
    assert "hunter22" not in (tmp_path / "run" / "lightning_logs" / "version_0" / "hparams.yaml").read_text()


def test_scores_of_the_exported_model_have_names_of_their_own() -> None:
    assert exported_scores({"val_f1": 1, "test_f1": 0.5, "train_f1": 1.0, "val_auroc": None}) == {
        "best_val_f1": 1.0,
        "test_f1": 0.5,
    }


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_ends_as_one_run(tiny_data: Path, tmp_path: Path, client: Any, signum: int) -> None:
    more = ["callbacks.progress=lines", "trainer.max_epochs=4", "callbacks.early_stopping.patience=null"]
    command = [sys.executable, "train.py", *overrides(tiny_data, tmp_path / "run", tmp_path / "store", *more)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert any(line.startswith("Epoch: 2") for line in first.stdout)
    os.kill(first.pid, signum)
    first.communicate()
    assert only_run(client).info.status == ("RUNNING" if signum == signal.SIGKILL else "KILLED")
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    found = only_run(client)
    assert found.info.status == "FINISHED"
    for key in ("val_loss", "train_loss", "val_auroc"):
        assert [step for step, _ in history(client, found.info.run_id, key)] == [1, 2, 3, 4]
