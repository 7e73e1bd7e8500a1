"""Keys of the group ``logger``: files and trackers that a run's scores are written to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tabstep.option_types import Doc
from tabstep.registry import LOGGERS, PluginSettings


@dataclass(frozen=True, kw_only=True)
class MlflowSettings:
    """A run of MLflow: parameters, scores by epoch, the page and the model as artifacts."""

    enabled: bool = False
    tracking_uri: Annotated[
        str | None,
        Doc("http(s)://, sqlite:///, a directory, SageMaker's ARN; null is MLFLOW_TRACKING_URI or MLflow's own"),
    ] = None
    experiment: Annotated[str, Doc("name of the experiment; it is made where there is none")] = "tabstep"
    run_name: Annotated[str | None, Doc("name of the run; null is that of paths.output_dir")] = None
    parent: Annotated[str | None, Doc("id of the run that this one is a child of; a sweep names its own")] = None
    tags: Annotated[dict[str, str], Doc("tags of the run")] = field(default_factory=dict)
    model: Annotated[bool, Doc("sends the model directory as an artifact")] = True


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """A run of Weights & Biases, with the same."""

    enabled: bool = False
    project: str = "tabstep"
    entity: Annotated[str | None, Doc("team or user; null is that of the account")] = None
    run_name: Annotated[str | None, Doc("name of the run; null is that of paths.output_dir")] = None
    group: Annotated[str | None, Doc("group of the run; null is the sweep of a trial")] = None
    mode: Annotated[
        Literal["online", "offline"] | None, Doc("offline writes files for wandb sync; null is WANDB_MODE or online")
    ] = None
    model: Annotated[bool, Doc("sends the model directory as an artifact")] = True


@dataclass(frozen=True, kw_only=True)
class LoggerSettings:
    """Where the metrics of each epoch are written."""

    csv: bool = True
    tensorboard: bool = False
    mlflow: MlflowSettings = field(default_factory=MlflowSettings)
    wandb: WandbSettings = field(default_factory=WandbSettings)
    extra: Annotated[
        list[Annotated[PluginSettings, LOGGERS]], Doc("Lightning loggers of other packages: name and options")
    ] = field(default_factory=list)
