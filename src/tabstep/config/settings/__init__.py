"""The composed configuration as frozen dataclasses: one module a group, one field a key, no torch.

A field's type is its rule: ``parse`` checks the composed YAML against the annotations of these modules, and
``json_schema`` prints them. ``Annotated[..., Range(...)]`` bounds a number, ``Doc`` says what a key means; a
``Literal`` lists the choices; a union of classes with a ``name`` field is chosen by that name. ``ComponentSettings``
beside a registry stands for the classes of all that is registered there. A default that does not hang on the machine
stands here too, the same as in conf/; those of a model stand in its constructor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tabstep.config.settings.callbacks import CallbackSettings, CheckpointSettings, EarlyStoppingSettings
from tabstep.config.settings.classifier import ClassifierSettings
from tabstep.config.settings.data import DataSettings, EncoderSettings, ReaderSettings, SplitSettings
from tabstep.config.settings.launch import LaunchSettings, LocalSettings, RaySettings, RemoteSettings
from tabstep.config.settings.logger import LoggerSettings, MlflowSettings, WandbSettings
from tabstep.config.settings.loss import LossSettings
from tabstep.config.settings.metrics import Metric, MetricSettings, Monitor
from tabstep.config.settings.optimizer import AdamWSettings, MuonSettings, OptimizerSettings, SGDSettings
from tabstep.config.settings.paths import PathSettings
from tabstep.config.settings.report import ReportSettings
from tabstep.config.settings.scheduler import (
    ConstantSettings,
    CosineSettings,
    OneCycleSettings,
    PlateauSettings,
    SchedulerSettings,
    StepSettings,
)
from tabstep.config.settings.schema import SchemaSettings
from tabstep.config.settings.trainer import TrainerSettings
from tabstep.option_types import Doc, Range
from tabstep.registry import (
    CLASSIFIERS,
    LAUNCHERS,
    LOSSES,
    MODELS,
    OPTIMIZERS,
    SCHEDULERS,
    ComponentSettings,
    PluginSettings,
)

__all__ = [
    "AdamWSettings",
    "CallbackSettings",
    "CheckpointSettings",
    "ClassifierSettings",
    "ConstantSettings",
    "CosineSettings",
    "DataSettings",
    "EarlyStoppingSettings",
    "EncoderSettings",
    "LaunchSettings",
    "LocalSettings",
    "LoggerSettings",
    "LossSettings",
    "Metric",
    "MetricSettings",
    "MlflowSettings",
    "Monitor",
    "MuonSettings",
    "OneCycleSettings",
    "OptimizerSettings",
    "PathSettings",
    "PlateauSettings",
    "RaySettings",
    "ReaderSettings",
    "RemoteSettings",
    "ReportSettings",
    "SGDSettings",
    "SchedulerSettings",
    "SchemaSettings",
    "Settings",
    "SplitSettings",
    "StepSettings",
    "TrainerSettings",
    "WandbSettings",
]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run."""

    schema: SchemaSettings = field(default_factory=SchemaSettings)
    data: DataSettings = field(default_factory=DataSettings)
    model: Annotated[ComponentSettings, MODELS] = field(default_factory=lambda: MODELS.defaults("tabm"))
    loss: Annotated[LossSettings | PluginSettings, LOSSES] = field(default_factory=LossSettings)
    optimizer: Annotated[OptimizerSettings | PluginSettings, OPTIMIZERS] = field(default_factory=MuonSettings)
    scheduler: Annotated[SchedulerSettings | PluginSettings, SCHEDULERS] = field(default_factory=ConstantSettings)
    classifier: Annotated[ClassifierSettings | PluginSettings, CLASSIFIERS] = field(default_factory=ClassifierSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    callbacks: CallbackSettings = field(default_factory=CallbackSettings)
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    paths: PathSettings
    launch: Annotated[LaunchSettings | PluginSettings, LAUNCHERS] = field(default_factory=LocalSettings)
    seed: Annotated[int, Range(ge=0, le=2**32 - 1), Doc("source of all randomness")] = 42
    resume: Annotated[str, Doc("auto, must, never or the path of a checkpoint")] = "auto"
    objective: Annotated[Metric | str, Doc("what a sweep optimizes, of the exported epoch")] = "val_auroc"
    baselines: Annotated[
        list[Literal["lightgbm", "xgboost", "catboost"]] | None,
        Doc("trees to score beside majority and logistic regression; null scores none of them"),
    ] = field(default_factory=list)
    decision: Annotated[
        str | None, Doc("what thresholds are chosen for on val: f1, precision>=0.9, cost={fp: 1, fn: 20}; null is 0.5")
    ] = None
    export: Annotated[
        Literal["onnx"] | None, Doc("a second form of the model: onnx adds model.onnx to its directory; null adds none")
    ] = None
    tags: list[str] = field(default_factory=list)

    @property
    def remote(self) -> RemoteSettings:
        """What a run that is launched elsewhere says of its job."""
        assert isinstance(self.launch, RemoteSettings)
        return self.launch
