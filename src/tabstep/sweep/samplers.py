"""Samplers: which hyperparameters the next trial gets (grid, random, Optuna's)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tabstep.errors import UserError
from tabstep.sweep.ledger import Trial
from tabstep.sweep.options import Options
from tabstep.sweep.space import Space, combinations, count

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 10
"""Trials that a search draws at random before it learns from them."""


@dataclass(frozen=True)
class Proposal:
    """The values of a trial, and what the sampler wants to read again in later ones."""

    params: Mapping[str, str]
    memory: Mapping[str, Any] = field(default_factory=dict)


class Proposer(Protocol):
    """Chooses the values of trials."""

    total: int  # trials that there can be

    def propose(self, number: int, trials: Sequence[Trial], sees: int) -> Proposal:
        """Return the values of trial ``number``, given the trials before it, the first ``sees`` with their results."""


class Grid:
    """Every combination of the values, in Hydra's order."""

    def __init__(self, space: Space, n_trials: int | None = None) -> None:
        self.space = space
        self.total = count(space) if n_trials is None else min(n_trials, count(space))

    def propose(self, number: int, trials: Sequence[Trial], sees: int) -> Proposal:
        """Return the combination of that number."""
        return Proposal(next(itertools.islice(combinations(self.space), number, None)))


class Search:
    """Values that one of Optuna's samplers chooses."""

    def __init__(self, space: Space, options: Options, max_epochs: int) -> None:
        assert options.n_trials is not None
        if not space.dimensions:
            raise UserError(
                "hydra.sweeper.params: there is nothing to search: give a range, as 'optimizer.lr=tag(log, "
                "interval(1e-4,1e-2))', or an option of hparams_search that has some"
            )
        self.space, self.options, self.max_epochs = space, options, max_epochs
        self.total = options.n_trials

    def propose(self, number: int, trials: Sequence[Trial], sees: int) -> Proposal:
        """Ask a sampler that is made for this trial."""
        from tabstep.sweep import optuna_study as advice

        dimensions = self.space.dimensions
        with advice.quiet():
            # as if they still ran: the sampler knows their values, and no results
            running = advice.TrialState.RUNNING
            shown = [
                advice.frozen(trial, dimensions, None if trial.number < sees else running) for trial in trials[:number]
            ]
            study = advice.make_study(
                shown,
                self.options.directions,
                sampler=make_sampler(self.options, number),
                pruner=advice.make_pruner(self.options.pruner, self.max_epochs),
            )
            asked = study.ask({key: advice.distribution(dimension) for key, dimension in dimensions.items()})
            memory = study.trials[asked.number].system_attrs
        params = {key: advice.to_text(dimension, asked.params[key]) for key, dimension in dimensions.items()}
        return Proposal(params, dict(memory))


def make_sampler(options: Options, number: int) -> optuna.samplers.BaseSampler:
    """Build the sampler for one trial; its random numbers come from the seed and the trial's number.

    Raises:
        UserError: a package is missing.
    """
    import optuna

    # far apart, so that sweeps of neighbouring seeds do not draw each other's values
    seed = (options.seed * 1_000_003 + number * 7_919) % 2**31
    samplers = optuna.samplers
    if options.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if options.sampler == "cmaes":
        _require("cmaes")
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if options.sampler == "nsgaii":
        # for four generations or more
        return samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, (options.n_trials or 50) // 4)))
    # constant_liar: trials that run at the same time are not to get the same values
    return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)


def make_proposer(space: Space, options: Options, max_epochs: int) -> Proposer:
    """Build what chooses the values of a sweep's trials."""
    if options.sampler in ("all", "grid"):
        return Grid(space, options.n_trials)
    return Search(space, options, max_epochs)


def _require(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UserError(f"hydra.sweeper.sampler: needs the package {package}: pip install 'tabstep[sweep]'")
