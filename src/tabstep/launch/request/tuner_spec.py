"""One tuning job of the service as plain values: the job that it repeats, what it varies, what it compares by."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tabstep.config.settings import Settings
from tabstep.container.hyperparameters import pack, without_local_places
from tabstep.errors import UserError, collecting, raise_problems
from tabstep.launch.request.job_spec import JobSpec
from tabstep.log_lines import METRIC_NAMES
from tabstep.sweep.distributions import Dimension, Numbers, Values, ends, enumerate_values
from tabstep.sweep.options import Options
from tabstep.sweep.space import Space

Strategy = Literal["Bayesian", "Random", "Hyperband", "Grid"]
MOST_VALUES: Final = 30
MOST_RANGES: Final = 30
MOST_HYPERPARAMETERS: Final = 90
"""The service takes 100 for a job; the SDK and the service add up to ten."""
STRATEGIES: Final[Mapping[str, Strategy]] = {"tpe": "Bayesian", "random": "Random", "grid": "Grid", "all": "Grid"}
OTHERWISE: Final = "hydra/launcher=sagemaker without launch.tuner sends a job for each trial"
_WITHOUT_LIMIT: Final = 1_000
_MORE_THAN_EVER: Final = 2
"""The service stops a job that has told the objective ``MaxResource`` times, and a job tells it once more at its end:
one that goes all the way must not be stopped before its model is sent."""


@dataclass(frozen=True, kw_only=True)
class TunerSpec:
    """A SageMaker tuning job; nothing in it has been sent.

    ``job`` has the hyperparameters that all jobs share, ``ranges`` those that they differ in: numbers between two ends,
    or lists of values. ``metric`` is a name among the job's metric definitions. ``resources`` are Hyperband's least and
    most epochs. Times are in seconds.
    """

    name: str
    job: JobSpec
    ranges: Mapping[str, Dimension]
    metric: str
    direction: Literal["Maximize", "Minimize"]
    strategy: Strategy
    early_stopping: bool = False
    resources: tuple[int, int] | None = None
    max_jobs: int
    max_parallel: int
    max_seconds: int | None = None
    seed: int


def tuner_spec(
    job: JobSpec, space: Space, options: Options, *, shared: Sequence[str], max_epochs: int, max_parallel: int
) -> TunerSpec:
    """Return the tuning job of a sweep.

    Args:
        job: what each trial is; its name is the tuner's.
        shared: the overrides of all trials.
        max_epochs: the most that a trial trains.

    Raises:
        ProblemsError: the service has nothing like it, one line for each reason.
    """
    strategy = _strategy(options)
    problems = [*_option_problems(options, job.metric_definitions), *_key_problems(space, shared)]
    ranges: dict[str, Dimension] = {}
    for key, dimension in space.dimensions.items():
        with collecting(problems):
            ranges[key] = ranged(key, dimension, strategy)
    problems += _size_problems(space, options, ranges, strategy)
    if (count := len(job.hyperparameters) + len(space.dimensions)) > MOST_HYPERPARAMETERS:
        problems.append(
            f"hyperparameters: {count} with the ranges, at most {MOST_HYPERPARAMETERS} are allowed: put overrides into "
            "an option of experiment"
        )
    raise_problems(problems)
    hyperband = options.pruner == "hyperband"
    max_jobs = _combinations(ranges) if strategy == "Grid" else options.n_trials or 1
    return TunerSpec(
        name=job.job_name,
        job=job,
        ranges=ranges,
        metric=METRIC_NAMES.get(options.objectives[0], options.objectives[0]),
        direction="Minimize" if options.directions[0] == "minimize" else "Maximize",
        strategy=strategy,
        early_stopping=options.pruner == "median",
        resources=(1, max_epochs + _MORE_THAN_EVER) if hyperband else None,
        max_jobs=max_jobs,
        max_parallel=min(max_parallel, max_jobs),
        max_seconds=None if options.timeout is None else math.ceil(options.timeout),
        # the service's RandomSeed ends at 2**31 - 1
        seed=options.seed % 2**31,
    )


def ranged(key: str, dimension: Dimension, strategy: Strategy) -> Dimension:
    """Return a dimension as the service can have it: numbers without steps, or a list of at most 30 values.

    Raises:
        UserError: it has more values than that.

    >>> str(ranged("model.width", Numbers(low=32, high=96, step=32, integer=True), "Bayesian"))
    'choice(32,64,96)'
    """
    dense = isinstance(dimension, Numbers) and (dimension.step is None or (dimension.integer and dimension.step == 1))
    if dense and strategy != "Grid":
        return dimension
    texts = enumerate_values(key, dimension)
    if len(texts) > MOST_VALUES:
        raise UserError(
            f"{key}: {len(texts)} values are a list for a tuner, which takes at most {MOST_VALUES}: give fewer, or, "
            "for a search, an interval without steps"
        )
    return Values(texts)


def longest(samples: Sequence[Settings], space: Space) -> int:
    """Return the most epochs that a trial may train; where one of them has no limit, more than a trial takes."""
    swept = space.dimensions.get("trainer.max_epochs")
    limits = [sample.trainer.max_epochs for sample in samples]
    limits += [None if text == "null" else int(text) for text in (ends(swept) if swept else ())]
    return max(_WITHOUT_LIMIT if limit is None else limit for limit in limits)


def tuner_name(stem: str, now: datetime.datetime) -> str:
    """Return a name of at most 32 characters, which begins the names of the tuner's jobs.

    >>> tuner_name("tabstep-resnet", datetime.datetime(2026, 11, 21, 8, 5, 9, 42000))
    'tabstep-resnet-261121-080509-042'
    """
    clean = re.sub(r"[^a-zA-Z0-9]+", "-", stem).strip("-")[:14].strip("-")
    return f"{clean or 'tuner'}-{now:%y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"


def ignored(options: Options, job: JobSpec) -> list[str]:
    """Return one line for each setting that has no effect on a tuner."""
    unused = {
        "hydra.sweeper.max_failures": options.max_failures is not None,
        "hydra.sweeper.storage": options.storage is not None,
        "hydra.sweeper.retry_failed": options.retry_failed,
        "launch.keep_alive": bool(job.keep_alive),
        "launch.debugger": job.debugger,
    }
    return [f"{key}: has no effect on a tuner" for key, is_set in unused.items() if is_set]


def _strategy(options: Options) -> Strategy:
    hyperband = options.pruner == "hyperband" and options.sampler not in ("grid", "all")
    return "Hyperband" if hyperband else STRATEGIES.get(options.sampler, "Bayesian")


def _option_problems(options: Options, defined: Collection[str]) -> Iterator[str]:
    if options.sampler not in STRATEGIES:
        yield f"hydra.sweeper.sampler: a tuner has no {options.sampler}: set tpe, random or grid; {OTHERWISE}"
    elif STRATEGIES[options.sampler] == "Grid" and options.pruner == "hyperband":
        yield "hydra.sweeper.pruner: a tuner's Hyperband chooses the values too: set hydra.sweeper.sampler=tpe"
    if len(options.objectives) > 1:
        yield f"hydra.sweeper.objectives: a tuner follows one, got {', '.join(options.objectives)}; {OTHERWISE}"
    for name in options.objectives:
        if METRIC_NAMES.get(name, name) not in defined:
            read = ", ".join(key for key in METRIC_NAMES if key != "train_accuracy")
            yield f"hydra.sweeper.objectives: {name} is in no line of a job's log, which a tuner reads: take {read}"


def _key_problems(space: Space, shared: Sequence[str]) -> Iterator[str]:
    """Find values that a job does not get as they are: as one readable hyperparameter for each key."""
    if not space.dimensions:
        yield (
            "hydra.sweeper.params: there is nothing to tune: give a range, as 'optimizer.lr=tag(log, "
            "interval(1e-4,1e-2))', or an option of hparams_search"
        )
    together = pack([*shared, *(f"{key}={ends(dimension)[0]}" for key, dimension in space.dimensions.items())])
    for key, dimension in space.dimensions.items():
        texts = [f"{key}={text}" for text in ends(dimension)]
        if len(without_local_places(texts)) < len(texts):
            yield f"{key}: is the same for all jobs of a tuner; {OTHERWISE}"
        elif unread := [text for text in texts if key not in pack([text])]:
            yield f"{unread[0]}: a tuner gives plain words and numbers to keys of the configuration; {OTHERWISE}"
        elif key not in together:
            yield f"{key}: another override sets it too, and a job cannot know which one is the last: leave one out"


def _size_problems(
    space: Space, options: Options, ranges: Mapping[str, Dimension], strategy: Strategy
) -> Iterator[str]:
    if len(space.dimensions) > MOST_RANGES:
        yield f"hydra.sweeper.params: {len(space.dimensions)} ranges, and a tuner takes at most {MOST_RANGES}"
    if strategy == "Grid" and len(ranges) == len(space.dimensions):
        count = _combinations(ranges)
        if options.n_trials is not None and options.n_trials < count:
            yield (
                f"hydra.sweeper.n_trials: {options.n_trials}, but a tuner's grid is all {count} combinations: set it "
                "to null, or hydra.sweeper.sampler=random"
            )


def _combinations(ranges: Mapping[str, Dimension]) -> int:
    return math.prod(len(enumerate_values(key, dimension)) for key, dimension in ranges.items())
