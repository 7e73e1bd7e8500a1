"""Botocore's model of the service: where a request violates it, and limits that botocore leaves to the service."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tabstep.errors import nearest
from tabstep.launch.request import sdk
from tabstep.launch.request.aws_facts import table

Shapes = Mapping[str, Mapping[str, Any]]

_OF_A_TUNER = "TrainingJobDefinition."
"""Where a tuner's request has what a job's has at its top."""
_TYPES: Mapping[str, tuple[Any, str]] = {  # of the model: what is asked for
    "structure": (Mapping, "fields by name"),
    "map": (Mapping, "values by name"),
    "list": (list | tuple, "a list"),
    "string": (str, "a text"),
    "integer": (int, "a whole number"),
    "long": (int, "a whole number"),
    "float": (int | float, "a number"),
    "double": (int | float, "a number"),
    "boolean": (bool, "true or false"),
}
_CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}  # of Java's engine, which the model is written for


@functools.cache
def shapes() -> Shapes:
    """Return the shapes of botocore's model of SageMaker; read from its files, without a client."""
    sdk.require("botocore")
    from botocore.loaders import Loader

    model: Mapping[str, Any] = Loader().load_service_model("sagemaker", "service-2")
    known: Shapes = model["shapes"]
    return known


def instance_types() -> list[str]:
    """Return the instance types that a training job may have."""
    return list(shapes()["TrainingInstanceType"]["enum"])


def violations(request: Mapping[str, Any], shape: str = "CreateTrainingJobRequest") -> list[str]:
    """Return one line for each place of a request that its shape in the model refuses."""
    return list(_walk(request, shape, ""))


def _walk(value: Any, name: str, path: str) -> Iterator[str]:
    shape = shapes()[name]
    kind = shape["type"]
    if not _is_of(value, kind):
        yield f"{_key(path)}: expected {_TYPES[kind][1]}, got {_shortened(value)}"
    elif kind == "structure":
        yield from _structure(value, shape, path)
    elif kind == "list":
        yield from _size(len(value), shape, path, "entries")
        for index, entry in enumerate(value):
            yield from _walk(entry, shape["member"]["shape"], f"{path}[{index}]")
    elif kind == "map":
        yield from _map(value, shape, path)
    elif kind == "string":
        yield from _text(value, shape, path)
    elif kind in ("integer", "long"):
        yield from _size(value, shape, path, "")


def _map(value: Mapping[str, Any], shape: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _size(len(value), shape, path, "entries")
    for key, text in value.items():
        yield from _walk(key, shape["key"]["shape"], f"{path}.{key}")
        yield from _walk(text, shape["value"]["shape"], f"{path}.{key}")


def _structure(value: Mapping[str, Any], shape: Mapping[str, Any], path: str) -> Iterator[str]:
    members = shape["members"]
    yield from (f"{_key(_join(path, key))}: is missing" for key in shape.get("required", ()) if key not in value)
    for key, part in value.items():
        if key in members:
            yield from _walk(part, members[key]["shape"], _join(path, key))
        else:
            yield f"{_key(_join(path, key))}: the service knows no such field: {nearest(key, members)}"


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
    keys = table("keys")
    prefixes = [prefix for prefix in keys if path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))]
    if not prefixes:
        return path
    longest = max(prefixes, key=len)
    return f"{keys[longest]}{path[len(longest) :]}".replace("hyperparameter.", "hyperparameter ")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _counted(size: int, unit: str) -> str:
    return f"{size} {unit}".strip()


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 62 else f"{text[:58]}...{text[-1]}"


def _is_of(value: Any, kind: str) -> bool:
    if kind not in _TYPES:
        return True
    return isinstance(value, _TYPES[kind][0]) and isinstance(value, bool) == (kind == "boolean")
