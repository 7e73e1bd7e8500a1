"""Standard errors against their formulas, and what is warned of with them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tabstep.analysis.sampled_rows import Predicted
from tabstep.baselines.scores import LINEAR, below_linear
from tabstep.run import chance


def errors(
    monkeypatch: pytest.MonkeyPatch, p: np.ndarray, y: np.ndarray, report: dict[str, Any], *, total: int = 0
) -> dict[str, float]:
    probs = np.stack([1.0 - p, p], axis=1).astype(np.float32)
    stored = Predicted(probs=probs, y=y, total=total or len(y))
    monkeypatch.setattr(chance, "read_predictions", lambda *_: stored)
    return chance.standard_errors(report, SimpleNamespace(task="binary"), Path())  # type: ignore[arg-type]


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Hanley and McNeil 1982, equation 2, with the two probabilities of an exponential distribution."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(spread / (positives * negatives))


def test_standard_errors_are_those_of_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(2_000) % 4 == 0).astype(np.int64)
    p = 1 / (1 + np.exp(-rng.normal(1.2 * y, 1.0)))
    area = (p[y == 1][:, None] > p[y == 0]).mean()
    losses = -np.log(np.where(y == 1, p, 1 - p))
    report = {"objective": "val_auroc", "val_auroc": area, "val_log_loss": losses.mean(), "test_auroc": 0.9}
    report["baselines"] = {LINEAR: {"val_auroc": 1.0, "val_log_loss": 0.0, "test_auroc": 0.8}}
    found = errors(monkeypatch, p, y, report)
    assert set(found) == {"val_auroc", "val_log_loss"}
    # of many rows the difference to another model of the same rows varies by a quarter of that
    assert 4 * found["val_auroc"] == pytest.approx(hanley_mcneil(area, 500, 1_500), rel=0.2)
    assert 4 * found["val_log_loss"] == pytest.approx(losses.std() / math.sqrt(len(y)), rel=0.2)
    of_more = errors(monkeypatch, p, y, report, total=8_000)
    assert of_more == pytest.approx({key: error / 2 for key, error in found.items()})


@pytest.mark.parametrize("rows", [10, 30, 60])
@pytest.mark.parametrize("positives", [1, 2, 5])
def test_a_model_that_has_not_learned_is_warned_of_on_few_rows(
    monkeypatch: pytest.MonkeyPatch, rows: int, positives: int
) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y = (np.arange(rows) < positives).astype(np.int64)
        p = rng.normal(0.5, 1e-3, rows)
        area = (p[y == 1][:, None] > p[y == 0]).mean()
        if area > 0.55:
            continue
        report = {"objective": "val_auroc", "val_auroc": area, "baselines": {LINEAR: {"val_auroc": 1.0}}}
        found = errors(monkeypatch, p, y, report)
        assert below_linear(report, report["baselines"], "val_auroc", found)  # type: ignore[arg-type]


def test_a_pair_of_rows_is_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    y = np.arange(24) % 2
    p = 1 / (1 + np.exp(-rng.normal(2.0 * y, 1.0)))
    area = (p[y == 1][:, None] > p[y == 0]).mean()
    report = {"objective": "val_auroc", "val_auroc": area, "baselines": {LINEAR: {"val_auroc": area + 1 / 144}}}
    assert below_linear(report, report["baselines"], "val_auroc")
    assert below_linear(report, report["baselines"], "val_auroc", errors(monkeypatch, p, y, report)) is None
