"""Hyperparameter importance: how much each swept key matters for the objective."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tabstep.errors import UserError
from tabstep.sweep.distributions import Dimension
from tabstep.sweep.ledger import Ledger, Trial
from tabstep.sweep.seeds import varied

LEAST = 4
"""Finished trials below which nothing is said."""


def importances(ledger: Ledger, dimensions: Mapping[str, Dimension]) -> dict[str, float]:
    """Return the share of each key, the largest first; together they are 1. Empty for too few or equal trials.

    A grid's shares are those of its main effects; a search's come from Optuna's PED-ANOVA.
    """
    trials = [trial for trial in ledger.trials if trial.state == "complete" and trial.values]
    varying = [key for key in varied(dimensions) if len({trial.params[key] for trial in trials}) > 1]
    if len(trials) < LEAST or not varying or len({trial.values[0] for trial in trials}) < 2:
        return {}
    if ledger.header.sampler in ("all", "grid"):
        found = {key: main_effect(trials, key) for key in varying}
    else:
        found = _by_optuna(ledger, trials, {key: dimensions[key] for key in varying})
    total = sum(found.values())
    shares = {key: value / total for key, value in found.items()} if total > 0 else {}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def main_effect(trials: Sequence[Trial], key: str) -> float:
    """Return the variance of the objective's means over the values of a key, each weighted by its trials."""
    groups: dict[str, list[float]] = {}
    for trial in trials:
        groups.setdefault(trial.params[key], []).append(trial.values[0])
    mean = statistics.fmean(trial.values[0] for trial in trials)
    return sum(len(group) * (statistics.fmean(group) - mean) ** 2 for group in groups.values()) / len(trials)


def _by_optuna(ledger: Ledger, trials: Sequence[Trial], dimensions: Mapping[str, Dimension]) -> dict[str, float]:
    try:
        from tabstep.sweep import optuna_study as advice
    except UserError:  # a sweep of another machine is read without Optuna
        return {key: main_effect(trials, key) for key in dimensions}
    with advice.quiet():
        study = advice.make_study([advice.frozen(trial, dimensions) for trial in trials], ledger.header.directions)
        evaluator = advice.optuna.importance.PedAnovaImportanceEvaluator()
        # with two objectives Optuna wants to be told which number counts
        first = None if len(ledger.header.directions) == 1 else lambda trial: trial.values[0]
        return dict(advice.optuna.importance.get_param_importances(study, evaluator=evaluator, target=first))
