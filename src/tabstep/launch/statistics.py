"""The scores of a report in the form that a model registry shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
        found = {shown: report.get(f"{split}_{name}") for name, shown in _NAMES.items()}
        known = {name: value for name, value in found.items() if value is not None}
        if known:
            return {kind: {name: {"value": value, "standard_deviation": "NaN"} for name, value in known.items()}}
    return {kind: {}}
