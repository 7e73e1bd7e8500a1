from __future__ import annotations

import math

import pytest

from tabstep.training.stopping import StopRule, best_row, selected_row


def history(key: str, *values: float) -> list[dict[str, float]]:
    return [{"epoch": index + 1, key: value} for index, value in enumerate(values)]


@pytest.mark.parametrize(
    ("key", "values", "epoch"),
    [
        ("val_auroc", (0.7, 0.9, 0.8), 2),
        ("val_loss", (0.7, 0.5, 0.6), 2),
        ("val_auroc", (0.7, 0.9, 0.9), 2),  # the earliest of equals
        ("val_auroc", (math.nan, 0.6, math.nan), 2),  # NaN never wins, neither first nor last
        ("val_loss", (math.nan, math.inf, 2.0), 3),
        ("val_log_loss", (0.3, 0.2), 2),
    ],
)
def test_best_row(key: str, values: tuple[float, ...], epoch: int) -> None:
    best = best_row(history(key, *values), key)
    assert best is not None
    assert best["epoch"] == epoch


def test_without_a_number_nothing_is_best_and_the_loss_selects() -> None:
    rows = [{"epoch": 1, "val_auroc": math.nan, "val_loss": 0.4}, {"epoch": 2, "val_auroc": math.nan, "val_loss": 0.5}]
    assert best_row(rows, "val_auroc") is None
    assert selected_row(rows, "val_auroc")["epoch"] == 1
    assert selected_row([{"epoch": 7, "val_loss": math.nan}], "val_auroc")["epoch"] == 7


@pytest.mark.parametrize(
    ("rule", "values", "seconds", "reason"),
    [
        (StopRule(max_epochs=2), (0.5, 0.4), 0.0, "trainer.max_epochs=2 reached"),
        (StopRule(max_epochs=9), (0.5, 0.4), 1e9, None),
        (StopRule(max_epochs=9, max_hours=1.0), (0.5,), 3600.0, "trainer.max_time=1 h reached"),
        (StopRule(max_epochs=9, max_hours=1.0), (), 3600.0, None),
        (StopRule(max_epochs=9, patience=2), (0.5, 0.4, 0.45, 0.41), 0.0, "no better val_loss in 2 epochs"),
        (StopRule(max_epochs=9, patience=2), (0.5, 0.4, 0.45, 0.39), 0.0, None),
        (StopRule(max_epochs=9, patience=2, min_delta=0.1), (0.5, 0.45, 0.41), 0.0, "no better val_loss in 2 epochs"),
        (StopRule(max_epochs=9, patience=2, min_delta=0.1), (0.5, 0.45, 0.39), 0.0, None),
        (StopRule(max_epochs=9, patience=2), (math.nan, math.nan), 0.0, "no better val_loss in 2 epochs"),
    ],
)
def test_reason(rule: StopRule, values: tuple[float, ...], seconds: float, reason: str | None) -> None:
    assert rule.reason(history("val_loss", *values), seconds) == reason


def test_a_maximized_metric_waits_for_gains() -> None:
    rule = StopRule(max_epochs=9, monitor="val_auroc", patience=1, min_delta=0.01)
    assert rule.reason(history("val_auroc", 0.8, 0.82), 0.0) is None
    assert rule.reason(history("val_auroc", 0.8, 0.805), 0.0) == "no better val_auroc in 1 epochs"
