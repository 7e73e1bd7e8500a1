from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tabstep.errors import RetryError, UserError
from tabstep.tracking.mlflow import LONGEST_VALUE, MlflowTracker, flattened
from tabstep.tracking.tracker import Results

HISTORY = [{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.25}, {"epoch": 3, "val_loss": float("nan")}]


def made(memory: Path, store: Path | str, **options: Any) -> MlflowTracker:
    tracker = MlflowTracker(memory, tracking_uri=str(store), experiment="tests", run_name="mine", **options)
    tracker.reach()
    return tracker


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return mlflow.MlflowClient(str(tmp_path / "store"))


def results(directory: Path) -> Results:
    report, model = directory / "report.json", directory / "model"
    report.write_text("{}")
    model.mkdir(exist_ok=True)
    (model / "weights").write_bytes(b"w")
    return Results(
        file=report,
        scores={"test_auroc": 0.75},
        epoch=2,
        artifacts={"report.json": report, "page": directory / "none.html", "model": model},
    )


def steps(client: Any, run_id: str, key: str = "val_loss") -> list[tuple[int, str]]:
    return [(each.step, str(each.value)) for each in client.get_metric_history(run_id, key)]


def test_a_run_has_parameters_epochs_scores_and_artifacts(tmp_path: Path, client: Any) -> None:
    tracker = made(tmp_path, tmp_path / "store", tags={"team": "risk"}, parent="abc")
    tracker.begin({"model": {"name": "mlp", "width": 8}, "long": "x" * 9000}, tmp_path / "report.json")
    for end in (1, 2, 3):
        tracker.add(HISTORY[:end])
    tracker.log({"lr-AdamW": 0.1}, 40)
    tracker.keep(HISTORY, results(tmp_path))
    tracker.end("finished")
    run = client.get_run(tracker.run_id)
    assert run.data.params == {"model.name": "mlp", "model.width": "8", "long": "x" * LONGEST_VALUE}
    assert steps(client, tracker.run_id) == [(1, "0.5"), (2, "0.25"), (3, "nan")]
    assert (steps(client, tracker.run_id, "test_auroc"), steps(client, tracker.run_id, "lr-AdamW")) == (
        [(2, "0.75")],
        [(40, "0.1")],
    )
    assert {each.path for each in client.list_artifacts(tracker.run_id)} == {"report.json", "model"}
    assert [each.path for each in client.list_artifacts(tracker.run_id, "model")] == ["model/weights"]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    assert (run.data.tags["team"], run.data.tags["mlflow.parentRunId"]) == ("risk", "abc")


def test_a_run_that_was_killed_goes_on_as_itself(tmp_path: Path, client: Any) -> None:
    first = made(tmp_path, tmp_path / "store")
    first.begin({"max_epochs": 2, "same": 1}, tmp_path / "report.json")
    first.add(HISTORY[:2])
    second = made(tmp_path, tmp_path / "store")
    second.begin({"max_epochs": 3, "same": 1, "new": 1}, tmp_path / "report.json")
    second.add(HISTORY[:2])
    second.add(HISTORY)
    second.end("killed")
    assert second.run_id == first.run_id
    assert steps(client, first.run_id) == [(1, "0.5"), (2, "0.25"), (3, "nan")]
    run = client.get_run(first.run_id)
    assert run.data.params == {"max_epochs": "2", "same": "1", "new": "1"}
    assert run.data.tags["resumed.max_epochs"] == "3"
    assert run.info.status == "KILLED"
    third = made(tmp_path, tmp_path / "store")
    third.begin({}, tmp_path / "report.json")
    assert client.get_run(first.run_id).info.status == "RUNNING"


def test_a_run_that_is_gone_is_another_one(tmp_path: Path, client: Any) -> None:
    first = made(tmp_path, tmp_path / "store")
    first.begin({}, tmp_path / "report.json")
    client.delete_run(first.run_id)
    second = made(tmp_path, tmp_path / "store")
    second.begin({}, tmp_path / "report.json")
    assert second.run_id != first.run_id
    elsewhere = made(tmp_path, tmp_path / "other")
    elsewhere.begin({}, tmp_path / "report.json")
    assert elsewhere.run_id not in (first.run_id, second.run_id)


def test_more_than_a_request_holds_is_several(tmp_path: Path, client: Any) -> None:
    tracker = made(tmp_path, tmp_path / "store")
    tracker.begin({str(number): number for number in range(230)}, tmp_path / "report.json")
    assert len(client.get_run(tracker.run_id).data.params) == 230


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        RetryError, match=r"^logger\.mlflow\.tracking_uri: http://127\.0\.0\.1:9 does not answer: start it, or train"
    ):
        made(tmp_path, "http://127.0.0.1:9")


def test_sagemakers_own_needs_its_package(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^logger\.mlflow\.tracking_uri: .*: pip install sagemaker-mlflow$"):
        made(tmp_path, "arn:aws:sagemaker:eu-central-1:123456789012:mlflow-tracking-server/mine")


def test_letters_that_mlflow_refuses_are_replaced() -> None:
    assert flattened({"a=b": {"c(d)": None}}) == {"a_b.c_d_": "None"}
    assert len(next(iter(flattened({"k" * 300: 1})))) == 250


@pytest.mark.slow
def test_a_server_keeps_a_run_that_was_killed(mlflow_server: str, tmp_path: Path) -> None:
    import mlflow

    for end in (2, 3):
        tracker = made(tmp_path, mlflow_server)
        tracker.begin({"model": {"width": 8}, "end": end}, tmp_path / "report.json")
        tracker.add(HISTORY[:end])
    tracker.keep(HISTORY, results(tmp_path))
    tracker.end("finished")
    client = mlflow.MlflowClient(mlflow_server)
    assert steps(client, tracker.run_id) == [(1, "0.5"), (2, "0.25"), (3, "nan")]
    assert {each.path for each in client.list_artifacts(tracker.run_id)} == {"report.json", "model"}
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert client.get_run(tracker.run_id).data.params["model.width"] == "8"
