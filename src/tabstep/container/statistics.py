"""The scores of a report in the form that a model registry shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tabstep.run_files import SCHEMA
from tabstep.system.atomic_write import write_durably

FILE: Final = "statistics.json"
"""Lies in a job's checkpoint directory at its end: the one place that S3 mirrors file by file."""
_NAMES: Final = {
    "accuracy": "accuracy",
    "f1": "f1",
    "auroc": "auc",
    "average_precision": "average_precision",
    "log_loss": "log_loss",
}


def statistics(report: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return SageMaker's model quality statistics: of the test split, or of val where there is no test.

    A score that is not known (null in the report) is left out.

    >>> statistics({"val_f1": 0.5, "val_loss": 0.1, "test_f1": None}, "binary")
    {'binary_classification_metrics': {'f1': {'value': 0.5, 'standard_deviation': 'NaN'}}}
    """
    kind = "binary_classification_metrics" if task == "binary" else "multiclass_classification_metrics"
    for split in ("test", "val"):
        scores = {shown: report.get(f"{split}_{name}") for name, shown in _NAMES.items()}
        known = {name: value for name, value in scores.items() if value is not None}
        if known:
            return {kind: {name: {"value": value, "standard_deviation": "NaN"} for name, value in known.items()}}
    return {kind: {}}


def write_statistics(report: Path, model: Path, checkpoints: Path) -> None:
    """Put a finished job's scores where a registry can read them; nothing without a report or without checkpoints.

    Args:
        report: ``report.json``; only one of several ranks or hosts has one.
        model: the artifact's directory, which knows the task.
        checkpoints: mirrored to S3 by the service.
    """
    if not (report.is_file() and checkpoints.is_dir()):
        return
    text = report.read_text(encoding="utf-8")
    task = json.loads((model / SCHEMA).read_text(encoding="utf-8"))["task"]
    write_durably(checkpoints / report.name, text.encode())
    write_durably(checkpoints / FILE, json.dumps(statistics(json.loads(text), task), indent=2).encode())
