"""Early stopping and the best epoch: pure functions of a run's history: a resumed run decides the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, float]
TIE_BREAKER = "val_log_loss"
TIE_DELTA = 1e-3
"""Log-loss that counts as progress where the monitor stands still, so that a run ends although a loss never does."""


MINIMIZED = ("loss", "error", "distance", "_ece")


def is_minimized(metric: str) -> bool:
    """Tell by its name whether less of a metric is better; ``training.extra_metrics`` sees to it that names are so.

    >>> is_minimized("val_log_loss"), is_minimized("test_raw_ece"), is_minimized("val_recall")
    (True, True, False)
    """
    return metric.endswith(MINIMIZED)


def is_better(value: float, best: float, metric: str) -> bool:
    """Compare two values of ``metric``, which ``is_minimized`` or is maximized. NaN is never better.

    >>> is_better(0.2, 0.3, "val_loss"), is_better(0.2, 0.3, "val_auroc"), is_better(float("nan"), 0.3, "val_f1")
    (True, False, False)
    """
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return value < best if is_minimized(metric) else value > best


def is_better_row(row: Row, best: Row, metric: str, *, tie_delta: float = 0.0) -> bool:
    """Compare two epochs by ``metric`` and, where that is equal, by the log-loss of val.

    AUROC and accuracy reach 1 on an easy table long before the probabilities are any good. A tie counts as better
    where the log-loss is lower by more than ``tie_delta``.

    >>> is_better_row({"val_auroc": 1.0, "val_log_loss": 0.2}, {"val_auroc": 1.0, "val_log_loss": 0.3}, "val_auroc")
    True
    """
    value, least = row.get(metric, math.nan), best.get(metric, math.nan)
    if value != least:
        return is_better(value, least, metric)
    return row.get(TIE_BREAKER, math.nan) < best.get(TIE_BREAKER, math.nan) - tie_delta


def best_row(history: Sequence[Row], monitor: str) -> Row | None:
    """Return the epoch with the best ``monitor``; None while no epoch has a number.

    Among equals it is the one of the lowest ``val_log_loss``, then the earliest.
    """
    best: Row | None = None
    for row in history:
        if not math.isnan(row.get(monitor, math.nan)) and (best is None or is_better_row(row, best, monitor)):
            best = row
    return best


def selected_row(history: Sequence[Row], monitor: str) -> Row:
    """Return the row of the epoch to export: the best; where no epoch has a number, that of the lowest ``val_loss``."""
    return best_row(history, monitor) or best_row(history, "val_loss") or history[-1]


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When a run is over: epochs, hours of training in total, or ``patience`` epochs without progress.

    Progress is a gain of more than ``min_delta`` in ``monitor``; where it is level with the best, a log-loss of val
    that is lower by ``TIE_DELTA``. The epochs without it must have taken ``patience_steps`` optimizer steps besides: an
    epoch of a small table is a few steps. ``judge`` gives a further reason, or None; it must be a pure function of the
    history too.
    """

    max_epochs: int | None = None
    max_hours: float | None = None
    monitor: str = "val_loss"
    patience: int | None = None
    patience_steps: int = 0
    min_delta: float = 0.0
    judge: Callable[[Sequence[Row]], str | None] | None = None

    def reason(self, history: Sequence[Row], seconds: float) -> str | None:
        """Return why a run with this history is over, or None.

        >>> rule = StopRule(max_epochs=9, patience=2)
        >>> rule.reason([{"val_loss": 1.0}, {"val_loss": 1.1}, {"val_loss": 1.2}], 0.0)
        'no better val_loss in 2 epochs'
        """
        if self.max_epochs is not None and len(history) >= self.max_epochs:
            return f"trainer.max_epochs={self.max_epochs} reached"
        # not before an epoch has ended: there would be none to export
        if history and self.max_hours is not None and seconds >= self.max_hours * 3600:
            return f"trainer.max_time={self.max_hours:g} h reached"
        if self.patience is not None:
            epochs, steps = self._without_progress(history)
            if epochs >= self.patience and steps >= self.patience_steps:
                return f"no better {self.monitor} in {epochs} epochs"
        return self.judge(history) if history and self.judge is not None else None

    def _without_progress(self, history: Sequence[Row]) -> tuple[int, float]:
        """Return the epochs and the optimizer steps since the last progress."""
        last = -1
        for index, row in enumerate(history):
            if last < 0 or self._is_progress(row, history[last]):
                last = index
        if last < 0:
            return 0, 0.0
        if math.isnan(history[last].get(self.monitor, math.nan)):  # no epoch has a number
            return len(history), history[-1].get("step", 0.0)
        return len(history) - 1 - last, history[-1].get("step", 0.0) - history[last].get("step", 0.0)

    def _is_progress(self, row: Row, best: Row) -> bool:
        value, least = row.get(self.monitor, math.nan), best.get(self.monitor, math.nan)
        if value == least:
            return is_better_row(row, best, self.monitor, tie_delta=TIE_DELTA)
        # a gain has to beat min_delta: the value is compared as if it were so much worse
        sign = 1.0 if is_minimized(self.monitor) else -1.0
        return is_better(value + sign * self.min_delta, least, self.monitor)
