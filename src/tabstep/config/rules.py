"""Rules between keys, which no annotation of one key can state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from tabstep.config.data_rules import DATA_RULES, Rule
from tabstep.config.settings import (
    AdamWSettings,
    CallbackSettings,
    CosineSettings,
    DataSettings,
    LaunchSettings,
    LoggerSettings,
    LossSettings,
    Metric,
    MetricSettings,
    Monitor,
    MuonSettings,
    OneCycleSettings,
    OptimizerSettings,
    PathSettings,
    RaySettings,
    RemoteSettings,
    SchedulerSettings,
    SchemaSettings,
    SGDSettings,
    TrainerSettings,
)
from tabstep.decision_goal import parse_goal
from tabstep.errors import nearest
from tabstep.registry import PluginSettings, metric_key

_SCHEME = re.compile(r"(\w[\w.-]*)(?:\+\w+)?:(\d*)")
_STORES = ("http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks", "uc")
_MLFLOW_ARN = re.compile(r"arn:aws[\w-]*:sagemaker:[\w-]+:\d{12}:mlflow-(?:tracking-server|app)/\S+")
RESUME_WORDS = ("auto", "must", "never")


def broken_rules(parsed: Mapping[str, Any]) -> list[str]:
    """Return one line for each broken rule among the groups that are valid by themselves."""
    return [
        problem
        for needed, rule in RULES
        if all(key in parsed for key in needed)
        for problem in rule(*(parsed[key] for key in needed))
    ]


def _columns(schema: SchemaSettings) -> Iterator[str]:
    labels = [schema.label] if isinstance(schema.label, str) else schema.label or []
    roles = {
        "schema.id": [] if schema.id is None else [schema.id],
        "schema.label": labels,
        "schema.weight": [] if schema.weight is None else [schema.weight],
        "schema.numeric": schema.numeric or [],
        "schema.categorical": schema.categorical or [],
        "schema.drop": schema.drop,
    }
    for key, names in roles.items():
        yield from (f"{key}: {name!r} stands {n} times" for name, n in Counter(names).items() if n > 1)
    places = Counter(name for names in roles.values() for name in set(names))
    for name, count in places.items():
        if count > 1:
            where = ", ".join(key for key, names in roles.items() if name in names)
            yield f"{where}: column {name!r} has several roles: give it one"


def _task(schema: SchemaSettings) -> Iterator[str]:
    several = isinstance(schema.label, list) and len(schema.label) > 1
    if isinstance(schema.label, list) and not schema.label:
        yield "schema.label: is an empty list: name the column to predict, or null to infer it"
    if several and schema.task in ("binary", "multiclass"):
        yield f"schema.task: {schema.task} has one label, but schema.label names {len(schema.label or [])}"
    if isinstance(schema.label, str) and schema.task == "multilabel":
        yield f"schema.label: multilabel needs a list of 0/1 columns, got {schema.label!r}"


def _classes(schema: SchemaSettings) -> Iterator[str]:
    if schema.classes is None:
        return
    if schema.task == "multilabel":
        yield "schema.classes: a multilabel task has no classes, its labels are columns: set it to null"
    elif schema.task == "binary" and len(schema.classes) != 2:
        yield f"schema.classes: a binary task has 2 classes, got {len(schema.classes)}"
    elif len(schema.classes) < 2:
        yield f"schema.classes: at least 2 are needed, got {len(schema.classes)}"
    repeated = [value for value, count in Counter(map(str, schema.classes)).items() if count > 1]
    yield from (f"schema.classes: {value!r} stands twice" for value in repeated)


def _loss(schema: SchemaSettings, loss: LossSettings | PluginSettings) -> Iterator[str]:
    if isinstance(loss, PluginSettings):
        return
    multilabel = schema.task == "multilabel" or (isinstance(schema.label, list) and len(schema.label) > 1)
    if loss.name == "bce" and schema.task == "multiclass":
        yield "loss.name: bce is for binary and multilabel tasks, but schema.task is multiclass: use loss=cross_entropy"
    if loss.name == "cross_entropy" and multilabel:
        yield "loss.name: cross_entropy takes one label a row, but the task is multilabel: use loss=bce"
    if isinstance(loss.class_weights, list):
        expected = len(schema.classes) if schema.classes is not None else None
        if expected is not None and len(loss.class_weights) != expected:
            yield f"loss.class_weights: {len(loss.class_weights)} weights for {expected} classes"


def _optimizer(optimizer: OptimizerSettings | PluginSettings) -> Iterator[str]:
    if isinstance(optimizer, AdamWSettings | MuonSettings) and len(optimizer.betas) != 2:
        yield f"optimizer.betas: expected two numbers, got {len(optimizer.betas)}"
    if isinstance(optimizer, SGDSettings) and optimizer.nesterov and optimizer.momentum == 0:
        yield "optimizer.nesterov: needs optimizer.momentum > 0: set one of them"


def _length(
    trainer: TrainerSettings, scheduler: SchedulerSettings | PluginSettings, callbacks: CallbackSettings
) -> Iterator[str]:
    if trainer.max_epochs is not None:
        return
    if isinstance(scheduler, CosineSettings | OneCycleSettings):
        yield f"scheduler.name: {scheduler.name} spans trainer.max_epochs, which is null: set it, or scheduler=plateau"
    if callbacks.early_stopping.patience is None and trainer.max_time is None:
        yield (
            "callbacks.early_stopping.patience: is null, and so are trainer.max_epochs and trainer.max_time: the run "
            "would never end: set one of them"
        )


def _resume(resume: str) -> Iterator[str]:
    if "://" in resume:
        yield f"resume: expected a local checkpoint, got {resume!r}: copy it to this machine first"
    elif resume not in RESUME_WORDS and not any(mark in resume for mark in "/\\."):
        yield f"resume: expected auto, must, never or the path of a checkpoint, got {resume!r}: " + nearest(
            resume, RESUME_WORDS
        )


def _paths(paths: PathSettings) -> Iterator[str]:
    for key in ("output_dir", "checkpoint_dir", "model_dir", "cache_dir"):
        value = getattr(paths, key)
        if value is None:
            continue
        if not value:
            yield f"paths.{key}: is an empty text: name a directory"
        elif "://" in value:
            yield f"paths.{key}: expected a local directory, got {value!r}"


def _launch(launch: LaunchSettings) -> Iterator[str]:
    if isinstance(launch, RemoteSettings) and launch.tuner and launch.name == "rehearsal":
        yield "launch.tuner: only AWS has a tuner: launch=dry_run prints the request, a rehearsal is of one job"


def _ray(launch: LaunchSettings, trainer: TrainerSettings, data: DataSettings) -> Iterator[str]:
    if not isinstance(launch, RaySettings):
        return
    if data.folds is not None and data.fold is None and launch.workers > 1:
        yield "data.folds: one process trains fold after fold: set launch.workers=1, or data.fold for each run"
    if trainer.devices not in (1, "auto") or trainer.num_nodes != 1:
        yield (
            f"launch.workers: says how many ranks there are, {launch.workers}, wherever they run: "
            "set trainer.devices=1 and trainer.num_nodes=1"
        )
    if trainer.accelerator == "gpu" and not launch.gpus_per_worker:
        yield "launch.gpus_per_worker: is 0, and trainer.accelerator is gpu: set it to 1"
    if trainer.accelerator == "cpu" and launch.gpus_per_worker:
        yield "launch.gpus_per_worker: is 1, and trainer.accelerator is cpu: set it to 0"
    if not isinstance(launch.runtime_env.get("py_modules", []), list):
        yield "launch.runtime_env.py_modules: expected a list"


def _tracking(logger: LoggerSettings) -> Iterator[str]:
    uri, key = logger.mlflow.tracking_uri, "logger.mlflow.tracking_uri"
    if uri is None:
        return
    if uri.startswith("arn:"):
        if not _MLFLOW_ARN.fullmatch(uri):
            yield f"{key}: expected the ARN of an MLflow server or app of SageMaker, got {uri!r}"
    elif (match := _SCHEME.match(uri)) and match[1] not in _STORES:
        # a host with its port looks like a scheme
        hint = f"http://{uri}" if match[2].isdecimal() else nearest(match[1], _STORES)
        yield f"{key}: expected an address, a database or a directory, got {uri!r}: {hint}"


def _decision(decision: str | None) -> Iterator[str]:
    if decision is not None:
        try:
            parse_goal(decision)
        except ValueError as error:
            yield f"decision: {error}"


def _folds(data: DataSettings, trainer: TrainerSettings, resume: str, export: str | None) -> Iterator[str]:
    if data.fold is not None and data.folds is None:
        yield f"data.fold: is {data.fold}, and data.folds is null: set data.folds to the number of folds"
    elif data.fold is not None and data.folds is not None and data.fold > data.folds:
        yield f"data.fold: is {data.fold}, and data.folds is {data.folds}: set data.fold to 1 to {data.folds}"
    if data.folds is None or data.fold is not None:
        return
    if trainer.num_nodes > 1:
        yield "data.folds: folds are trained one after another on one machine: set trainer.num_nodes=1, or data.fold"
    if resume not in RESUME_WORDS:
        yield f"resume: each fold goes on from a checkpoint of its own: expected auto, must or never, got {resume!r}"
    if export is not None:
        yield (
            f"export: the models of folds have codes of their own, and a row of {export} can have one: export one "
            "of them with tabstep export, and set export=null"
        )


def _watched(objective: str, callbacks: CallbackSettings, metrics: MetricSettings) -> Iterator[str]:
    """Check names of scores; those of classes are known with the data alone, and go on behind that of their metric."""
    added = [f"val_{metric_key(part.name)}" for part in metrics.extra if part is not None]
    named = {
        "objective": (objective, get_args(Metric)),
        "callbacks.early_stopping.monitor": (callbacks.early_stopping.monitor, get_args(Monitor)),
        "callbacks.checkpoint.monitor": (callbacks.checkpoint.monitor, get_args(Monitor)),
    }
    for key, (name, scores) in named.items():
        known = [*scores, *added]
        if name in scores or any(name == each or name.startswith(f"{each}_") for each in added):
            continue
        near = nearest(name, known)
        hint = f": {near}" if near.startswith("did") else ""
        yield f"{key}: expected one of {', '.join(known)}, got {name!r}{hint}"


RULES: tuple[Rule, ...] = (
    (("schema",), _columns),
    (("schema",), _task),
    (("schema",), _classes),
    (("schema", "loss"), _loss),
    *DATA_RULES,
    (("data", "trainer", "resume", "export"), _folds),
    (("optimizer",), _optimizer),
    (("trainer", "scheduler", "callbacks"), _length),
    (("resume",), _resume),
    (("decision",), _decision),
    (("logger",), _tracking),
    (("objective", "callbacks", "metrics"), _watched),
    (("paths",), _paths),
    (("launch",), _launch),
    (("launch", "trainer", "data"), _ray),
)
