"""Options of a sweep, below ``hydra.sweeper``: typed and checked, every problem at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from tabstep.config.settings import Metric
from tabstep.errors import ProblemsError, nearest
from tabstep.sweep.ledger import Direction
from tabstep.training.stopping import is_minimized

SAMPLERS: Final = ("tpe", "random", "grid", "cmaes", "nsgaii")
PRUNERS: Final = ("none", "median", "hyperband")
MEASURES: Final = ("seconds", "epochs")
OBJECTIVES: Final = (*get_args(Metric), *MEASURES)
DIRECTIONS: Final = get_args(Direction)
USUAL_EPOCHS: Final = 40
"""Epochs that a pruner reckons with where trainer.max_epochs is null: few runs take more."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a sweep is run.

    Args:
        sampler: chooses the values of each trial; ``all`` is every combination, without Optuna.
        pruner: ends trials that fall behind.
        n_trials: of the sweep in total, those of earlier calls included; None is every combination.
        timeout: seconds of this call after which no trial begins.
        max_failures: failed trials that are tolerated; None is any number.
        storage: of Optuna, as an URL; None is a journal in the sweep's directory.
        retry_failed: run failed trials of earlier calls again.
    """

    sampler: str
    pruner: str
    n_trials: int | None
    timeout: float | None
    max_failures: int | None
    seed: int
    storage: str | None
    retry_failed: bool
    objectives: tuple[str, ...]
    directions: tuple[Direction, ...]

    @property
    def searches(self) -> bool:
        """Whether the values of a trial rest on the results of earlier ones."""
        return self.sampler not in ("all", "grid", "random")


def parse_options(raw: Mapping[str, Any], *, objective: str, seed: int, added: Sequence[str] = ()) -> Options:
    """Check ``hydra.sweeper``.

    Args:
        added: scores of val by metrics that the run adds; names that go on behind one are those of its classes.
        objective, seed: those of the run, for a sweep without its own.

    Raises:
        ProblemsError: one line for every problem.
    """
    objectives = list(raw.get("objectives") or [objective])
    problems = [f"hydra.sweeper.{problem}" for problem in _problems(raw, objectives, added)]
    if problems:
        raise ProblemsError(problems)
    directions = raw.get("directions") or [default_direction(name) for name in objectives]
    return Options(
        sampler=raw.get("sampler") or "all",
        pruner=raw["pruner"],
        n_trials=raw.get("n_trials"),
        timeout=raw.get("timeout"),
        max_failures=raw.get("max_failures"),
        seed=seed if raw.get("seed") is None else raw["seed"],
        storage=raw.get("storage"),
        retry_failed=bool(raw.get("retry_failed")),
        objectives=tuple(objectives),
        directions=cast(tuple[Direction, ...], tuple(directions)),
    )


def default_direction(objective: str) -> Direction:
    """Return what is better for a number of a report.

    >>> default_direction("val_auroc"), default_direction("val_log_loss"), default_direction("seconds")
    ('maximize', 'minimize', 'minimize')
    """
    return "minimize" if is_minimized(objective) or objective in MEASURES else "maximize"


def _problems(raw: Mapping[str, Any], objectives: Sequence[str], added: Sequence[str]) -> Iterator[str]:
    sampler, pruner = raw.get("sampler"), raw["pruner"]
    if sampler is not None and sampler not in SAMPLERS:
        yield f"sampler: no such sampler, {sampler!r}: {nearest(str(sampler), SAMPLERS)}"
    if pruner not in PRUNERS:
        yield f"pruner: no such pruner, {pruner!r}: {nearest(str(pruner), PRUNERS)}"
    elif pruner != "none" and len(objectives) > 1:
        yield f"pruner: {pruner} compares trials by one objective, but there are {len(objectives)}: set it to none"
    elif pruner != "none" and objectives[0] in MEASURES:
        yield f"pruner: {pruner} looks at each epoch, but {objectives[0]} is known at the end: set it to none"
    yield from _numbers(raw)
    yield from _objectives(objectives, added)
    yield from _directions(raw.get("directions"), objectives)
    if len(objectives) > 1 and sampler == "cmaes":
        yield "sampler: cmaes follows one objective: use sampler=nsgaii for two"


def _numbers(raw: Mapping[str, Any]) -> Iterator[str]:
    for key, least in {"n_trials": 1, "max_failures": 0, "seed": 0}.items():
        value = raw.get(key)
        if value is not None and value < least:
            yield f"{key}: expected a whole number >= {least}, got {value}"
    if (timeout := raw.get("timeout")) is not None and not timeout > 0:
        yield f"timeout: expected seconds > 0, got {timeout}"
    if raw.get("n_trials") is None and raw.get("sampler") not in (None, "grid"):
        yield f"n_trials: is missing: a search by {raw['sampler']} has no end of its own"


def _objectives(objectives: Sequence[str], added: Sequence[str]) -> Iterator[str]:
    for name in objectives:
        if name.startswith("test_"):
            yield f"objectives: {name}: a choice by the test split would spoil it: use val_{name.removeprefix('test_')}"
        elif name not in OBJECTIVES and not any(name == each or name.startswith(f"{each}_") for each in added):
            yield f"objectives: no such objective, {name!r}: {nearest(name, [*OBJECTIVES, *added])}"
    if len(set(objectives)) < len(objectives):
        yield f"objectives: one stands twice in {', '.join(objectives)}"
    if len(objectives) > 2:
        yield f"objectives: expected one or two, got {len(objectives)}"


def _directions(directions: Sequence[str] | None, objectives: Sequence[str]) -> Iterator[str]:
    if directions is None:
        return
    for name in directions:
        if name not in DIRECTIONS:
            yield f"directions: expected maximize or minimize, got {name!r}"
    for name, direction in zip(objectives, directions, strict=False):
        if direction in DIRECTIONS and name not in MEASURES and direction != default_direction(name):
            yield f"directions: {direction} {name}: the best checkpoint of a run is chosen the other way round"
    for name in objectives[len(directions) :]:
        yield f"directions: is missing for {name}: give one for each objective, or null"
    if len(directions) > len(objectives):
        yield f"directions: {len(directions)} directions for {len(objectives)} objectives ({', '.join(objectives)})"
