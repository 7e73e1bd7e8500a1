"""A tuning job that a pipeline runs later: the space of a sweep around a job that is checked like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from tabstep.config.compose import composed, composed_sweeper
from tabstep.config.conf_directory import config_dir
from tabstep.config.overrides import check_overrides
from tabstep.config.resolve import composition_problem
from tabstep.config.settings import Settings
from tabstep.errors import collecting, raise_problems
from tabstep.launch.pipeline.step import NO_TIME, Step, apart, digest, prepare_step, step_settings
from tabstep.launch.request.checked_request import checked_tuner_request
from tabstep.launch.request.tuner_spec import TunerSpec, ignored, longest, tuner_name, tuner_spec
from tabstep.sweep.best import SKIPPED_KEYS, differing
from tabstep.sweep.distributions import ends
from tabstep.sweep.options import Options, parse_options
from tabstep.sweep.space import Space, given, parse_space
from tabstep.sweep.validate import sample

DEFAULT: Final = "optuna"
"""Option of hparams_search whose sampler, pruner and number of trials ranges have that come without any."""


@dataclass(frozen=True, kw_only=True)
class TuningStep:
    """A checked tuning job; ``step`` is the training of one of its jobs, under the tuner's name."""

    spec: TunerSpec
    step: Step
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a tuning step tries.

    ``ranges`` is an option of the group hparams_search or a list of texts in Hydra's grammar, ``sweeper`` values for
    keys below ``hydra.sweeper``.
    """

    ranges: str | Sequence[str]
    sweeper: Mapping[str, Any]
    max_parallel: int

    def read(self, overrides: Sequence[str]) -> tuple[Space, Options, list[str]]:
        """Return the space, how it is searched, and the overrides that all jobs share.

        Raises:
            UserError: it cannot be read, or makes no sense.
        """
        named = isinstance(self.ranges, str)
        option = f"hparams_search={self.ranges if named else DEFAULT}"
        texts = [] if named else list(self.ranges)
        problems, _ = check_overrides([option, *overrides], [config_dir()], multirun=True)
        raise_problems(problems)
        with _composing():
            raw = composed_sweeper([option, *overrides], [config_dir()])
            plain = composed(overrides, [config_dir()])
            searched = composed([option, *overrides], [config_dir()]) if named else plain
        raise_problems(f"hydra.sweeper.{key}: no such key" for key in self.sweeper if key not in raw)
        raw = {**raw, **self.sweeper}
        options = parse_options(raw, objective=str(plain["objective"]), seed=int(plain["seed"]))
        set_by_option = differing(_values(plain), _values(searched))
        space = parse_space([*(given(raw["params"]) if named else []), *overrides, *texts], seed=options.seed)
        return space, options, [*(space.shared[key] for key in space.order if key in space.shared), *set_by_option]


@contextmanager
def _composing() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into one line of ours."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise composition_problem(error) from error


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in SKIPPED_KEYS}


def prepare_tuning_step(overrides: Sequence[str], launch: Mapping[str, Any], search: Search) -> TuningStep:
    """Check a tuning job and pack the source of its jobs; ``step`` is to be placed, as ``prepare_step`` leaves it.

    Raises:
        UserError: everything that is wrong, one line each.
    """
    space, options, shared = search.read(overrides)
    known, late = apart(launch)
    samples = _checked(space, shared, known)
    step = prepare_step(shared, launch)
    name = tuner_name(f"{samples[0].launch.prefix}-{samples[0].model.name}", NO_TIME)  # type: ignore[union-attr]
    spec = tuner_spec(
        replace(step.spec, job_name=name),
        space,
        options,
        shared=shared,
        max_epochs=longest(samples, space),
        max_parallel=search.max_parallel,
    )
    checked_tuner_request(spec)
    warnings = (*step.warnings, *ignored(options, spec.job))
    name = f"PyTorchTuning-{digest(spec, late)[:8]}"
    return TuningStep(spec=spec, step=replace(step, name=name), warnings=warnings)


def _checked(space: Space, shared: Sequence[str], known: Mapping[str, Any]) -> list[Settings]:
    """Compose a few jobs that stand for all, and return their settings.

    Raises:
        ProblemsError: one line for every mistake.
    """
    problems: list[str] = []
    for key, dimension in space.dimensions.items():
        problems += check_overrides([f"{key}={text}" for text in ends(dimension)], [config_dir()])[0]
    raise_problems(problems)
    samples: list[Settings] = []
    for params in sample(space, [config_dir()]):
        with collecting(problems), _composing():
            samples.append(step_settings([*shared, *(f"{key}={text}" for key, text in params.items())], known))
    raise_problems(problems)
    return samples
