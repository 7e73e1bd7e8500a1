from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from tests.baselines.test_linear import CARDINALITIES, make_table
from torch import Tensor

from tabstep.baselines.scores import LINEAR, MAJORITY, baseline_scores, below_linear
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.models.probabilities import probabilities


def test_each_split_is_scored_with_what_was_fitted_on_train() -> None:
    table = make_table("binary")
    tables = {"train": table.head(200), "val": table, "test": table.head(100)}

    def score(forward: object, part: EncodedTable) -> dict[str, float]:
        import torch

        logits: Tensor = forward(torch.from_numpy(part.x_num), torch.from_numpy(part.x_cat))  # type: ignore[operator]
        p = probabilities(logits, "binary").double().numpy()
        return {"auroc": float(roc_auc_score(part.y, p)), "log_loss": float(log_loss(part.y, p))}

    found = baseline_scores(tables, "binary", cardinalities=CARDINALITIES, num_outputs=1, trees=[], score=score)  # type: ignore[arg-type]
    assert list(found) == [MAJORITY, LINEAR]
    share = table.head(200).y.mean()
    expected = log_loss(table.head(100).y, np.full(100, share))
    assert found[MAJORITY] == pytest.approx(
        {
            "val_auroc": 0.5,
            "test_auroc": 0.5,
            "val_log_loss": log_loss(table.y, np.full(300, share)),
            "test_log_loss": expected,
        }
    )
    assert found[LINEAR]["test_auroc"] > 0.9
    assert found[LINEAR]["val_log_loss"] < found[MAJORITY]["val_log_loss"] - 0.1


@pytest.mark.parametrize(
    ("objective", "ours", "linear", "warned"),
    [
        ("val_auroc", {"val_auroc": 0.54}, {"val_auroc": 1.0}, True),
        ("val_auroc", {"val_auroc": 0.9996}, {"val_auroc": 1.0}, False),
        ("val_auroc", {"val_auroc": 1.0}, {"val_auroc": 0.5}, False),
        ("val_loss", {"val_log_loss": 0.6}, {"val_log_loss": 0.4}, True),
        ("val_log_loss", {"val_log_loss": 0.4}, {"val_log_loss": 0.6}, False),
        ("train_loss", {"val_log_loss": 0.6}, {"val_log_loss": 0.4}, True),
        ("val_auroc", {"val_auroc": float("nan")}, {"val_auroc": 1.0}, False),
        ("val_auroc", {"val_auroc": None}, {"val_auroc": 1.0}, False),
        ("val_auroc", {"val_auroc": 0.9, "val_log_loss": 0.5}, {"val_auroc": 0.9, "val_log_loss": 0.4}, True),
        ("val_auroc", {"val_auroc": 0.9, "val_log_loss": 0.4}, {"val_auroc": 0.9, "val_log_loss": 0.5}, False),
        ("val_auroc", {"val_auroc": 0.9, "test_auroc": 0.7}, {"val_auroc": 0.8, "test_auroc": 0.8}, True),
        ("val_auroc", {"val_auroc": 0.9, "test_log_loss": 0.7}, {"val_auroc": 0.8, "test_log_loss": 0.6}, True),
        ("val_auroc", {"val_auroc": 0.9, "test_auroc": 0.8}, {"val_auroc": 0.8, "test_auroc": 0.7}, False),
    ],
)
def test_a_model_below_logistic_regression_is_warned_of(
    objective: str, ours: dict[str, float], linear: dict[str, float], warned: bool
) -> None:
    warning = below_linear(ours, {LINEAR: linear}, objective)
    assert (warning is not None) == warned
    if warning:
        assert warning.startswith("warning: worse than logistic regression on the same columns: ")
        assert max(map(len, warning.splitlines())) <= 100


def test_a_difference_within_a_standard_error_is_none() -> None:
    linear, objective = {LINEAR: {"val_auroc": 0.9218, "val_log_loss": 0.4}}, "val_auroc"
    ours = {"val_auroc": 0.9186, "val_log_loss": 0.45}
    errors = {"val_auroc": 0.06, "val_log_loss": 0.08}
    assert below_linear(ours, linear, objective, errors) is None
    assert "val_auroc 0.9186" in str(below_linear(ours, linear, objective))
    assert "val_auroc 0.7000" in str(below_linear({**ours, "val_auroc": 0.7}, linear, objective, errors))
    assert "val_log_loss 0.4900" in str(below_linear({**ours, "val_log_loss": 0.49}, linear, objective, errors))


def test_without_baselines_nothing_is_said(tmp_path: Path) -> None:
    assert below_linear({"val_auroc": 0.5}, {}, "val_auroc") is None
