"""The service's own limits, read from botocore's model of it: nobody else checks them before the service does."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabstep.launch.request import sdk

Shapes = Mapping[str, Mapping[str, Any]]

# Where a part of the request comes from; the longest prefix counts.
_KEYS = {
    "TrainingJobName": "launch.job_name",
    "RoleArn": "launch.role",
    "HyperParameters": "hyperparameter",
    "Environment": "launch.environment",
    "Tags": "launch.tags",
    "AlgorithmSpecification.TrainingImage": "launch.image_uri",
    "ResourceConfig.InstanceType": "launch.instance_type",
    "ResourceConfig.InstanceCount": "launch.instance_count",
    "ResourceConfig.VolumeSizeInGB": "launch.volume_size",
    "ResourceConfig.VolumeKmsKeyId": "launch.volume_kms_key",
    "ResourceConfig.KeepAlivePeriodInSeconds": "launch.keep_alive",
    "OutputDataConfig.S3OutputPath": "launch.output_path",
    "OutputDataConfig.KmsKeyId": "launch.output_kms_key",
    "CheckpointConfig.S3Uri": "launch.checkpoint_path",
    "InputDataConfig": "launch.input_path",
    "StoppingCondition.MaxRuntimeInSeconds": "launch.max_run",
    "StoppingCondition.MaxWaitTimeInSeconds": "launch.max_wait",
    "VpcConfig.Subnets": "launch.subnets",
    "HyperParameterTuningJobName": "launch.job_name",
    "HyperParameterTuningJobConfig.ParameterRanges": "hydra.sweeper.params",
    "HyperParameterTuningJobConfig.ResourceLimits.MaxNumberOfTrainingJobs": "hydra.sweeper.n_trials",
    "HyperParameterTuningJobConfig.ResourceLimits.MaxParallelTrainingJobs": "hydra.launcher.max_parallel",
    "HyperParameterTuningJobConfig.ResourceLimits.MaxRuntimeInSeconds": "hydra.sweeper.timeout",
    "StaticHyperParameters": "hyperparameter",
    "HyperParameterTuningResourceConfig.InstanceType": "launch.instance_type",
    "HyperParameterTuningResourceConfig.InstanceCount": "launch.instance_count",
    "HyperParameterTuningResourceConfig.VolumeSizeInGB": "launch.volume_size",
    "HyperParameterTuningResourceConfig.VolumeKmsKeyId": "launch.volume_kms_key",
    "VpcConfig.SecurityGroupIds": "launch.security_group_ids",
}
_OF_A_TUNER = "TrainingJobDefinition."
"""Where a tuner's request has what a job's has at its top."""
_CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}  # of Java's engine, which the model is written for


@functools.cache
def shapes() -> Shapes:
    """Return the shapes of botocore's model of SageMaker; read from its files, without a client."""
    sdk.require("botocore")
    from botocore.loaders import Loader

    model: Mapping[str, Any] = Loader().load_service_model("sagemaker", "service-2")
    found: Shapes = model["shapes"]
    return found


def instance_types() -> list[str]:
    """Return the instance types that a training job may have."""
    return list(shapes()["TrainingInstanceType"]["enum"])


def violations(request: Mapping[str, Any], shape: str = "CreateTrainingJobRequest") -> list[str]:
    """Return one line for each place of a request that its shape in the model refuses."""
    return list(_walk(request, shape, ""))


def _walk(value: Any, name: str, path: str) -> Iterator[str]:
    shape = shapes()[name]
    kind = shape["type"]
    if kind == "structure":
        yield from _structure(value, shape, path)
    elif kind == "list":
        yield from _size(len(value), shape, path, "entries")
        for index, each in enumerate(value):
            yield from _walk(each, shape["member"]["shape"], f"{path}[{index}]")
    elif kind == "map":
        yield from _size(len(value), shape, path, "entries")
        for key, each in value.items():
            yield from _walk(key, shape["key"]["shape"], f"{path}.{key}")
            yield from _walk(each, shape["value"]["shape"], f"{path}.{key}")
    elif kind == "string":
        yield from _text(value, shape, path)
    elif kind in ("integer", "long"):
        yield from _size(value, shape, path, "")


def _structure(value: Mapping[str, Any], shape: Mapping[str, Any], path: str) -> Iterator[str]:
    members = shape["members"]
    yield from (f"{_key(_join(path, key))}: is missing" for key in shape.get("required", ()) if key not in value)
    for key, each in value.items():
        if key in members:
            yield from _walk(each, members[key]["shape"], _join(path, key))
        else:
            yield f"{_join(path, key)}: the service knows no such field"


def _size(size: int, shape: Mapping[str, Any], path: str, unit: str) -> Iterator[str]:
    low, high = shape.get("min"), shape.get("max")
    if high is not None and size > high:
        yield f"{_key(path)}: {_counted(size, unit)}, at most {high} are allowed"
    if low is not None and size < low:
        yield f"{_key(path)}: {_counted(size, unit)}, at least {low} are needed"


def _text(value: str, shape: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _size(len(value), shape, path, "characters")
    if "enum" in shape:
        if value not in shape["enum"] and _key(path) != "launch.instance_type":  # which has a check of its own
            yield f"{_key(path)}: {value!r} is none of {', '.join(shape['enum'])}"
    elif "pattern" in shape and (pattern := readable(shape["pattern"])) and not pattern.fullmatch(value):
        yield f"{_key(path)}: {_shortened(value)} does not match the service's pattern {shape['pattern']}"


@functools.cache
def readable(text: str) -> re.Pattern[str] | None:
    """Return a pattern of the model as Python's; None for a few, of fields that no job of ours has."""
    for java, python in _CLASSES.items():
        text = text.replace(java, python)
    return None if r"\p" in text else re.compile(text)


def _key(path: str) -> str:
    """Return the name by which the user set a part of the request."""
    path = path.removeprefix(_OF_A_TUNER)
    prefixes = [prefix for prefix in _KEYS if path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))]
    if not prefixes:
        return path
    longest = max(prefixes, key=len)
    return f"{_KEYS[longest]}{path[len(longest) :]}".replace("hyperparameter.", "hyperparameter ")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _counted(size: int, unit: str) -> str:
    return f"{size} {unit}".strip()


def _shortened(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:57]}...")
