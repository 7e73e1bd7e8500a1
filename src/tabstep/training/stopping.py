"""Which epoch was best and whether to stop: pure functions of a run's history, so a resumed run decides the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, float]


def is_better(value: float, best: float, metric: str) -> bool:
    """Compare two values of ``metric``: losses are minimized, all else maximized. NaN is never better.

    >>> is_better(0.2, 0.3, "val_loss"), is_better(0.2, 0.3, "val_auroc"), is_better(float("nan"), 0.3, "val_f1")
    (True, False, False)
    """
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return value < best if metric.endswith("loss") else value > best


def best_row(history: Sequence[Row], objective: str) -> Row | None:
    """Return the epoch with the best ``objective``, the earliest among equals; None while no epoch has a number."""
    best: Row | None = None
    for row in history:
        value = row.get(objective, math.nan)
        if is_better(value, math.nan if best is None else best[objective], objective):
            best = row
    return best


def selected_row(history: Sequence[Row], objective: str) -> Row:
    """Return the row of the epoch to export: the best; where no epoch has a number, that of the lowest ``val_loss``."""
    return best_row(history, objective) or best_row(history, "val_loss") or history[-1]


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When a run is over: epochs, hours of training in total, ``patience`` epochs without a gain of ``min_delta``.

    ``judge`` gives a further reason, or None; it must be a pure function of the history too.
    """

    max_epochs: int
    max_hours: float | None = None
    monitor: str = "val_loss"
    patience: int | None = None
    min_delta: float = 0.0
    judge: Callable[[Sequence[Row]], str | None] | None = None

    def reason(self, history: Sequence[Row], seconds: float) -> str | None:
        """Return why a run with this history is over, or None.

        >>> rule = StopRule(max_epochs=9, patience=2)
        >>> rule.reason([{"val_loss": 1.0}, {"val_loss": 1.1}, {"val_loss": 1.2}], 0.0)
        'no better val_loss in 2 epochs'
        """
        if len(history) >= self.max_epochs:
            return f"trainer.max_epochs={self.max_epochs} reached"
        if history and self.max_hours is not None and seconds >= self.max_hours * 3600:
            return f"trainer.max_time={self.max_hours:g} h reached"
        if self.patience is not None and self._epochs_without_gain(history) >= self.patience:
            return f"no better {self.monitor} in {self.patience} epochs"
        return self.judge(history) if history and self.judge is not None else None

    def _epochs_without_gain(self, history: Sequence[Row]) -> int:
        best, waited = math.nan, 0
        sign = 1.0 if self.monitor.endswith("loss") else -1.0
        for row in history:
            value = row.get(self.monitor, math.nan)
            if is_better(value + sign * self.min_delta, best, self.monitor):
                best, waited = value, 0
            else:
                waited += 1
        return waited
