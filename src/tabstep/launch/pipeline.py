"""A training as a step of a SageMaker pipeline: from a configuration object to the SDK's ``TrainingStep``."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import RemoteSettings, Settings
from tabstep.errors import ProblemsError
from tabstep.launch import render, sdk, validate
from tabstep.launch.bundle import Bundle, build_bundle, checkout
from tabstep.launch.dispatch import checked_request
from tabstep.launch.hyperparameters import ModelHyperparameters
from tabstep.launch.overrides import pack, spill
from tabstep.launch.requirements import job_packages
from tabstep.launch.spec import JobSpec, Payload, job_spec, split_uri
from tabstep.launch.statistics import FILE as STATISTICS
from tabstep.schema import SPLITS

# Long ago: no time may enter a step, or its cache never hits.
_NO_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
Address = Any  # a text, a parameter of the pipeline or a property of an earlier step


@dataclass(frozen=True, kw_only=True)
class PytorchTrainingConfig:
    """A training job in a pipeline; the defaults are those of conf/launch/sagemaker.yaml.

    Paths, instance type and count may be parameters of the pipeline, and paths the output of an earlier step too; the
    input path then must not end in a slash. ``hyperparameters`` is a ``ModelHyperparameters``, the name of an
    experiment in conf/, or a list of overrides.

    ``settings`` takes every other key of ``launch``: ``{"volume_kms_key": …, "torch": "2.12"}``.

    Raises:
        ProblemsError: there are no hyperparameters.
    """

    input_path: Address
    output_path: Address
    checkpoint_path: Address | None
    hyperparameters: ModelHyperparameters | str | Sequence[str]
    training_instance_type: Address = "ml.g5.12xlarge"
    training_instance_count: Any = 1
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
            raise ProblemsError(["hyperparameters: are missing: a ModelHyperparameters, an experiment or overrides"])

    def to_overrides(self) -> list[str]:
        """Return the hyperparameters as a command line would say them."""
        if isinstance(self.hyperparameters, ModelHyperparameters):
            return self.hyperparameters.to_overrides()
        if isinstance(self.hyperparameters, str):
            return [f"experiment={self.hyperparameters}"]
        return list(self.hyperparameters)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    spec: JobSpec
    late: Mapping[str, Any]
    bundle: Bundle


class PyTorchTrainingStepBuilder:
    """Makes ``TrainingStep`` objects of a configuration.

    Args:
        role: ARN of the job's role; None takes the environment variable SAGEMAKER_ROLE.
        sagemaker_session: a session of the SDK; None makes one for the region of this machine. A plain one sends
            nothing either: the step has a pipeline's session made of it.
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
        self._role = role
        self._given = sagemaker_session
        self._upload = upload
        self._names: list[str] = []

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
            name: of the step; None makes one of the model and the configuration's digest.
            cache_config: a ``CacheConfig``. With it the checkpoints lie at a place of the configuration; without it at
                one of each execution, so that a repeated execution trains anew.

        Raises:
            ProblemsError: everything that is wrong with the job, one line each.
        """
        region, session = self._session()
        prepared = self._prepare(region)
        if self._upload:
            _send(session, prepared)
        late = {**prepared.late, **_checkpoints(prepared, cached=cache_config is not None)}
        with sdk.quiet():
            from sagemaker.workflow.steps import TrainingStep

            estimator = render.estimator(prepared.spec, session, late)
            arguments = estimator.fit(inputs=render.inputs(prepared.spec, late))
            return TrainingStep(
                name=self._unique(name or f"PyTorchTraining-{_digest(prepared)}"),
                step_args=arguments,
                depends_on=list(dependencies) if dependencies else None,
                cache_config=cache_config,
                retry_policies=list(retry_policies) if retry_policies else None,
            )

    def _session(self) -> tuple[str, Any]:
        if self._given is None:
            region = self._settings().region or sdk.configured_region() or ""
            if not region:
                raise ProblemsError(["launch.region: is missing: give sagemaker_session, or set AWS_REGION"])
            return region, sdk.session(region, pipeline=True, bucket=self._bucket())
        return self._given.boto_region_name, sdk.pipeline_session(self._given, bucket=self._bucket())

    def _bucket(self) -> str | None:
        paths = (self.config.output_path, self.config.input_path, self.config.checkpoint_path)
        return next((split_uri(path)[0] for path in paths if isinstance(path, str) and path.startswith("s3://")), None)

    def _unique(self, name: str) -> str:
        self._names.append(name)
        count = self._names.count(name)
        return name if count == 1 else f"{name}-{count}"

    def _composed(self) -> Settings:
        root = checkout() or Path(__file__).resolve().parents[1]
        return parse(composed(["launch=sagemaker", *self.config.to_overrides()], [root / "conf"]))

    def _settings(self) -> RemoteSettings:
        settings = self._composed().launch
        assert isinstance(settings, RemoteSettings)
        return settings
