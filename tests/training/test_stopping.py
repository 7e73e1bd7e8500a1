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
        ("val_auroc", (0.7, 0.9, 0.9), 2),  # the earliest of equals, where no log-loss tells them apart
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


def with_log_loss(*pairs: tuple[float, float], steps: int = 5) -> list[dict[str, float]]:
    return [
        {"epoch": index + 1, "step": steps * (index + 1), "val_auroc": auroc, "val_log_loss": loss}
        for index, (auroc, loss) in enumerate(pairs)
    ]


def test_of_equal_epochs_the_lowest_log_loss_is_best() -> None:
    rows = with_log_loss((0.9, 0.1), (1.0, 0.5), (1.0, 0.2), (1.0, 0.2), (1.0, 0.3), (1.0, math.nan))
    assert selected_row(rows, "val_auroc")["epoch"] == 3


def test_a_falling_log_loss_is_progress_while_the_monitor_stands_still() -> None:
    rule = StopRule(monitor="val_auroc", patience=2)
    assert rule.reason(with_log_loss((1.0, 0.5), (1.0, 0.4), (1.0, 0.3)), 0.0) is None
    assert (
        rule.reason(with_log_loss((1.0, 0.5), (1.0, 0.4995), (1.0, 0.4992)), 0.0) == "no better val_auroc in 2 epochs"
    )
    assert rule.reason(with_log_loss((1.0, 0.5), (0.9, 0.4), (0.9, 0.3)), 0.0) == "no better val_auroc in 2 epochs"


@pytest.mark.parametrize(("epochs", "over"), [(4, False), (5, True)])
def test_patience_counts_steps_too(epochs: int, over: bool) -> None:
    """Five steps an epoch: the four after the best have taken 20 steps, those after it three would have to be."""
    rule = StopRule(monitor="val_auroc", patience=2, patience_steps=20)
    reason = rule.reason(with_log_loss(*[(0.9, 0.5)] * epochs), 0.0)
    assert reason == ("no better val_auroc in 4 epochs" if over else None)


def test_without_limits_a_run_goes_on_while_it_improves() -> None:
    rising = with_log_loss(*[(0.5 + 0.001 * index, 0.5) for index in range(400)])
    assert StopRule(monitor="val_auroc", patience=2).reason(rising, 1e9) is None
