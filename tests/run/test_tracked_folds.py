"""A cross-validation in MLflow: a run with one child a fold, which the same command leaves as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.run.test_tracked import client, history, tracked_run

__all__ = ["client"]


def test_a_cross_validation_is_a_run_with_a_child_each_fold(tiny_data: Path, tmp_path: Path, client: Any) -> None:
    output, more = tmp_path / "crossed", ["data.folds=2", "trainer.max_epochs=1"]
    tracked_run(tiny_data, output, tmp_path / "store", *more)
    experiment = client.get_experiment_by_name("tabstep").experiment_id
    runs = {each.info.run_name: each for each in client.search_runs([experiment])}
    assert set(runs) == {"crossed", "crossed fold 1", "crossed fold 2"}
    whole = runs.pop("crossed")
    assert {each.data.tags["mlflow.parentRunId"] for each in runs.values()} == {whole.info.run_id}
    report = json.loads((output / "report.json").read_text())
    assert history(client, whole.info.run_id, "best_val_auroc") == [(0, report["val_auroc"])]
    assert whole.data.params["data.folds"] == "2"
    assert {each.path for each in client.list_artifacts(whole.info.run_id)} == {"model", "report.json"}
    for fold in (1, 2):
        own = json.loads((output / "folds" / str(fold) / "report.json").read_text())
        assert runs[f"crossed fold {fold}"].data.metrics["test_auroc"] == pytest.approx(own["test_auroc"])
    tracked_run(tiny_data, output, tmp_path / "store", *more)
    again = client.search_runs([experiment])
    assert len(again) == 3
    assert {each.info.status for each in again} == {"FINISHED"}
