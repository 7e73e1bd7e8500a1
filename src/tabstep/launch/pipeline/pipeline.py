"""A training as a step of a SageMaker pipeline: from a configuration object to the SDK's ``TrainingStep``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tabstep.errors import raise_problems
from tabstep.launch.pipeline.registration import Registration, register_step
from tabstep.launch.pipeline.step import (
    Hyperparameters,
    Step,
    check_step,
    job_overrides,
    job_variables,
    prepare_step,
)
from tabstep.launch.pipeline.tuning_step import Search, prepare_tuning_step
from tabstep.launch.request import render, sdk
from tabstep.launch.request.job_spec import split_uri
from tabstep.launch.s3.transfer import put_bytes
from tabstep.schema import SPLITS
from tabstep.system.exits import say

Address = Any  # a text, a parameter of the pipeline, or what an earlier step puts out


@dataclass(frozen=True, kw_only=True)
class PytorchTrainingConfig:
    """A training job in a pipeline; the defaults are those of conf/launch/sagemaker.yaml.

    Paths, instance type and count may be parameters of the pipeline, and paths the output of an earlier step too. An
    input path that is known only then must not end in a slash; it may also be a mapping of the splits to places of
    their own. A path that is None is made of the bucket: ``input``, ``output`` and ``checkpoints`` below
    ``launch.prefix``; ``checkpoint_path="none"`` keeps no checkpoints.

    ``hyperparameters`` is a ``ModelHyperparameters``, the name of an experiment in conf/, a list of overrides, or
    values by key, ``{"optimizer.lr": 0.001}``. Those of the first and the last may be variables of the pipeline, and so
    may an experiment's name.
    ``training_volume_size`` and ``training_entry_point`` are other names of ``volume_size`` and ``entry_point``.

    ``settings`` takes every other key of ``launch``: ``{"volume_kms_key": …, "torch": "2.12"}``.

    Raises:
        ProblemsError: everything that is wrong with the job and does not hang on its role, region and source, one line
            each.
    """

    hyperparameters: Hyperparameters
    input_path: Address | Mapping[str, Address] | None = None
    output_path: Address | None = None
    checkpoint_path: Address | None = None
    training_instance_type: Address = "ml.g5.12xlarge"
    training_instance_count: Any = 1
    training_volume_size: int | None = None
    training_entry_point: str | None = None
    volume_size: int = 30
    entry_point: str = "train.py"
    source_dir: str | None = None
    framework_version: str | None = None
    py_version: str | None = None
    image_uri: str | None = None
    channels: Sequence[str] = SPLITS
    max_run: int = 86400
    spot: bool = False
    max_wait: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.hyperparameters:
            raise_problems(
                ["hyperparameters: are missing: a ModelHyperparameters, an experiment, overrides or values by key"]
            )
        raise_problems(
            f"{name}, training_{name}: are two names of one thing, and differ: leave one out"
            for name in ("volume_size", "entry_point")
            if getattr(self, f"training_{name}") not in (None, getattr(self, name))
            and getattr(self, name) != getattr(type(self), name)
        )
        check_step(self.to_overrides(), self.launch_settings())

    def to_overrides(self) -> list[str]:
        """Return the hyperparameters as a command line would say them."""
        return job_overrides(self.hyperparameters)

    def launch_settings(self) -> dict[str, Any]:
        """Return the values for conf/launch, pipeline variables among them."""
        named = {
            "volume_size": self.volume_size if self.training_volume_size is None else self.training_volume_size,
            "entry_point": self.training_entry_point or self.entry_point,
            "instance_type": self.training_instance_type,
            "instance_count": self.training_instance_count,
            "channels": list(self.channels),
            "environment": dict(self.environment),
            "tags": dict(self.tags),
        }
        same = (
            "input_path", "output_path", "checkpoint_path", "source_dir", "framework_version", "py_version",
            "image_uri", "max_run", "spot", "max_wait",
        )  # fmt: skip
        late = {f"hyperparameters.{key}": value for key, value in job_variables(self.hyperparameters).items()}
        return {**named, **{name: getattr(self, name) for name in same}, **late, **self.settings}


class PyTorchTrainingStepBuilder:
    """Makes steps of a configuration.

    Args:
        role: ARN of the job's role; None takes ``launch.role`` of conf/, the environment variable SAGEMAKER_ROLE.
        sagemaker_session: a session of the SDK; None makes one for the region of this machine. Steps never send a job.
        upload: puts the source bundle to S3 when a step is made; without it nothing leaves this machine.
    """

    def __init__(
        self,
        config: PytorchTrainingConfig,
        role: str | None = None,
        sagemaker_session: Any = None,
        *,
        upload: bool = True,
    ) -> None:
        self.config = config
        self._role, self._given, self._upload = role, sagemaker_session, upload
        self._made: dict[str, Step] = {}
        self._tuned: set[str] = set()

    def create_step(
        self,
        dependencies: Sequence[Any] | None = None,
        *,
        name: str | None = None,
        cache_config: Any = None,
        retry_policies: Sequence[Any] | None = None,
    ) -> Any:
        """Return a ``sagemaker.workflow.steps.TrainingStep``.

        Args:
            dependencies: steps that come before; one whose output is a path comes before by that already.
            name: of the step; None makes one of model and configuration.
            cache_config: a ``CacheConfig``. With it the checkpoints lie at a place of pipeline, step and configuration,
                without it at one of execution and step, so that a repeated execution trains anew.

        Raises:
            ProblemsError: everything that is wrong with the job, one line each.
        """
        prepared = prepare_step(self.config.to_overrides(), self._launch())
        step = self._placed(prepared, name, cached=cache_config is not None)
        session = self._sent(step, step.warnings)
        with sdk.quiet():
            from sagemaker.workflow.steps import TrainingStep

            render.lay_over(session, step.spec.request)
            arguments = render.estimator(step.spec, session, step.late).fit(inputs=render.inputs(step.spec, step.late))
            return TrainingStep(step.name, arguments, **_options(dependencies, cache_config, retry_policies))

    def create_tuning_step(
        self,
        ranges: str | Sequence[str],
        dependencies: Sequence[Any] | None = None,
        *,
        sweeper: Mapping[str, Any] | None = None,
        max_parallel: int = 4,
        name: str | None = None,
        cache_config: Any = None,
        retry_policies: Sequence[Any] | None = None,
    ) -> Any:
        """Return a ``sagemaker.workflow.steps.TuningStep``: the job of ``create_step``, many times with other values.

        Args:
            ranges: an option of the group hparams_search, such as ``"resnet"``, or a list of ranges in Hydra's grammar,
                such as ``["optimizer.lr=tag(log, interval(1e-4, 1e-2))"]``.
            sweeper: values for keys below ``hydra.sweeper``, such as ``{"n_trials": 10, "pruner": "hyperband"}``.
            max_parallel: jobs at a time.
            dependencies, name, cache_config, retry_policies: as ``create_step`` takes them.

        Raises:
            UserError: everything that is wrong with the job or the ranges, one line each.
        """
        search = Search(ranges=ranges, sweeper=sweeper or {}, max_parallel=max_parallel)
        tuning = prepare_tuning_step(self.config.to_overrides(), self._launch(), search)
        step = self._placed(tuning.step, name, cached=cache_config is not None)
        session = self._sent(step, tuning.warnings)
        self._tuned.add(step.name)
        with sdk.quiet():
            from sagemaker.workflow.steps import TuningStep

            render.lay_over(session, {"TrainingJobDefinition": step.spec.request})
            tuner = render.tuner(tuning.spec, session, step.late)
            arguments = tuner.fit(inputs=render.inputs(tuning.spec.job, step.late), job_name=tuning.spec.name)
            return TuningStep(step.name, arguments, **_options(dependencies, cache_config, retry_policies))

    def create_registration_step(
        self, training_step: Any, model_package_group_name: str, *, name: str | None = None, **options: Any
    ) -> Any:
        """Return a ``ModelStep`` that registers what a step of this builder trains, with its scores.

        Of a tuning step, that is its best job.

        Args:
            options: fields of ``tabstep.launch.pipeline.registration.Registration``, such as ``approval_status``.
        """
        step = self._made[training_step.name]
        best = training_step.properties.BestTrainingJob.TrainingJobName if training_step.name in self._tuned else None
        return register_step(
            training_step,
            Registration(
                model_package_group_name=model_package_group_name,
                statistics_uri=step.statistics_uri(best),
                model_data=None if best is None else step.model_uri(best),
                **options,
            ),
            self._session(step),
            role=step.spec.role,
            name=name or f"{training_step.name}-Register",
        )

    def _launch(self) -> dict[str, Any]:
        """Return the values for conf/launch, with what the builder was given."""
        role = {} if self._role is None else {"role": self._role}
        region = {} if self._given is None else {"region": self._given.boto_region_name}
        return {**self.config.launch_settings(), **role, **region}

    def _placed(self, step: Step, name: str | None, *, cached: bool) -> Step:
        """Give a step the name it was given, or one of its own, and checkpoints by that name."""
        placed = step.placed(self._unique(name or step.name), cached=cached)
        self._made[placed.name] = placed
        return placed

    def _sent(self, step: Step, warnings: Sequence[str]) -> Any:
        """Put the source of a step to S3, and return the session that its job is made with."""
        session = self._session(step)
        for line in warnings:
            say(f"warning: {line}")
        if self._upload:
            put_bytes(sdk.client(session.boto_session, "s3"), step.bundle.data, *split_uri(step.spec.bundle_uri))
        return session

    def _session(self, step: Step) -> Any:
        bucket, _ = split_uri(step.spec.bundle_uri)
        boto = sdk.boto_session(step.spec.region) if self._given is None else self._given.boto_session
        return sdk.session(boto, bucket, pipeline=True, given=getattr(self._given, "sagemaker_client", None))

    def _unique(self, name: str) -> str:
        if name not in self._made:
            return name
        return next(other for n in range(2, 10_000) if (other := f"{name}-{n}") not in self._made)


def _options(dependencies: Sequence[Any] | None, cache_config: Any, policies: Sequence[Any] | None) -> dict[str, Any]:
    """Return what every step of the SDK takes besides its request."""
    return {
        "depends_on": list(dependencies) if dependencies else None,
        "cache_config": cache_config,
        "retry_policies": list(policies) if policies else None,
    }
