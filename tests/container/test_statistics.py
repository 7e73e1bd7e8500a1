from __future__ import annotations

import json
from pathlib import Path

import pytest

from tabstep.container.statistics import FILE, statistics, write_statistics


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("binary", "binary_classification_metrics"),
        ("multiclass", "multiclass_classification_metrics"),
        ("multilabel", "multiclass_classification_metrics"),
    ],
)
def test_scores_of_the_test_split(task: str, kind: str) -> None:
    report = {"test_auroc": 0.9, "test_f1": None, "test_accuracy": 0.8, "val_auroc": 0.7, "test_loss": 0.1}
    found = statistics(report, task)
    assert list(found) == [kind]
    assert {name: each["value"] for name, each in found[kind].items()} == {"accuracy": 0.8, "auc": 0.9}
    json.dumps(found, allow_nan=False)


def test_without_scores() -> None:
    assert statistics({"epochs": 3}, "binary") == {"binary_classification_metrics": {}}


def test_a_finished_job_leaves_its_scores_beside_its_checkpoints(tmp_path: Path) -> None:
    report, model, checkpoints = tmp_path / "report.json", tmp_path / "model", tmp_path / "checkpoints"
    write_statistics(report, model, checkpoints)
    assert list(tmp_path.iterdir()) == []
    report.write_text('{"val_auroc": 0.75}')
    model.mkdir()
    (model / "schema.json").write_text('{"task": "binary"}')
    write_statistics(report, model, checkpoints)
    assert not checkpoints.exists()
    checkpoints.mkdir()
    write_statistics(report, model, checkpoints)
    found = json.loads((checkpoints / FILE).read_text())
    assert found["binary_classification_metrics"]["auc"]["value"] == 0.75
    assert (checkpoints / "report.json").read_text() == report.read_text()
