"""Trials that differ in their seed alone: repetitions of one choice of values, with a mean and a spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tabstep.sweep.ledger import Ledger, Trial

SEED: Final = "seed"


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """Trials of the same values: the mean and the standard deviation of their first objective."""

    params: dict[str, str]
    trials: tuple[Trial, ...]
    mean: float
    std: float

    @property
    def values(self) -> list[float]:
        """The first objective of each trial."""
        return [trial.values[0] for trial in self.trials]


def varied(keys: Iterable[str]) -> list[str]:
    """Return the keys that are hyperparameters: a seed is none, for nobody can choose a good one.

    >>> varied(["model.width", "seed"])
    ['model.width']
    """
    return [key for key in keys if key.lstrip("+") != SEED]


def repetitions(ledger: Ledger) -> list[Repetition]:
    """Return the choices of values that several seeds were tried with, the best mean first."""
    if not any(key.lstrip("+") == SEED for key in ledger.header.space):
        return []
    groups: dict[tuple[str, ...], list[Trial]] = {}
    keys = varied(ledger.header.space)
    for trial in ledger.trials:
        if trial.state == "complete" and trial.values:
            groups.setdefault(tuple(trial.params.get(key, "") for key in keys), []).append(trial)
    found = [_repetition(dict(zip(keys, params, strict=True)), trials) for params, trials in groups.items()]
    return sorted(found, key=lambda group: -ledger.sign * group.mean)


def _repetition(params: dict[str, str], trials: Sequence[Trial]) -> Repetition:
    values = [trial.values[0] for trial in trials]
    std = statistics.stdev(values) if len(values) > 1 else float("nan")
    return Repetition(params=params, trials=tuple(trials), mean=statistics.fmean(values), std=std)
