"""What an annotation of ``settings`` says: its members, bounds and description. Shared by all that read the classes."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tabstep.config.settings import Settings
from tabstep.option_types import Doc, Range
from tabstep.registry import ComponentSettings, PluginSettings, Registry

_TYPE_NAMES = {  # of one value, of several
    str: ("text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    type(None): ("null", "null"),
    Any: ("any value", "any values"),
    PluginSettings: ("a name with options", "names with options"),
}


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a class of settings, ``Annotated`` kept."""
    return get_type_hints(cls, include_extras=True)


def bare(annotation: Any) -> Any:
    """Return the annotation without its ``Annotated`` metadata."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def bounds(annotation: Any) -> Range:
    """Return the bounds of a number; open ones when it has none."""
    return next((m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Range)), Range())


def doc(annotation: Any) -> str:
    """Return what the key means, or an empty text."""
    return next((m.text for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Doc)), "")


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone; what is registered for it counts as a member each."""
    base, known = bare(annotation), registry(annotation)
    found = get_args(base) if get_origin(base) in (Union, types.UnionType) else (annotation,)
    if known is None:
        return found
    own = (m for m in found if bare(m) not in (ComponentSettings, PluginSettings))
    return (*own, *known.settings(), PluginSettings)


def registry(annotation: Any) -> Registry | None:
    """Return where the components of an annotation are registered, if they are."""
    return next((m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Registry)), None)


def plugins(settings: Any, prefix: str = "") -> Iterator[tuple[str, Registry, PluginSettings]]:
    """Return the components of other packages that settings choose: the path of each, its registry and its settings."""
    cls: type = type(settings)
    for key, annotation in hints(cls).items():
        value, known = getattr(settings, key), registry(annotation)
        if isinstance(value, PluginSettings) and known is not None:
            yield f"{prefix}{key}", known, value
        elif dataclasses.is_dataclass(value):
            yield from plugins(value, f"{prefix}{key}.")
        elif is_list(annotation) and (listed := registry(item(annotation))) is not None:
            yield from ((f"{prefix}{key}[{place}]", listed, each) for place, each in enumerate(value))
        elif is_mapping(annotation) and (named := registry(item(annotation))) is not None:
            yield from ((f"{prefix}{key}.{name}", named, each) for name, each in value.items())


@functools.cache
def registries(cls: type = Settings, prefix: str = "") -> dict[str, Registry]:
    """Return the registry of each group that has one, by its dotted key.

    >>> sorted(registries())
    ['classifier', 'data.reader', 'launch', 'loss', 'model', 'optimizer', 'scheduler']
    """
    found: dict[str, Registry] = {}
    for key, annotation in hints(cls).items():
        known = registry(annotation)
        if known is not None:
            found[f"{prefix}{key}"] = known
        elif len(below := groups(annotation)) == 1:
            found |= registries(below[0], f"{prefix}{key}.")
    return found


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the values that a ``Literal`` among the members lists."""
    literals = (bare(m) for m in members(annotation))
    return tuple(value for m in literals if get_origin(m) is Literal for value in get_args(m))


def groups(annotation: Any) -> tuple[type, ...]:
    """Return the classes of settings among the members: none for a plain value, several for a choice by name."""
    return tuple(m for m in members(annotation) if dataclasses.is_dataclass(m) and isinstance(m, type))


def name_of(cls: type) -> str | None:
    """Return the first name that selects a class of a union; None for the one that takes any other name."""
    return next(iter(names_of(cls)), None)


def names_of(cls: type) -> tuple[str, ...]:
    """Return the names that select a class of a union; none for the one that takes any other name."""
    return () if cls is PluginSettings else choices(hints(cls)["name"])


def is_list(annotation: Any) -> bool:
    """Tell whether a list is what the annotation itself (not a union around it) asks for."""
    return get_origin(bare(annotation)) is list


def item(annotation: Any) -> Any:
    """Return the annotation of the items of a list, or of the values of a mapping."""
    return get_args(bare(annotation))[-1]


def is_mapping(annotation: Any) -> bool:
    """Tell whether a mapping with keys of the user's own is what the annotation itself asks for."""
    return get_origin(bare(annotation)) is dict


def is_own_key(path: str) -> bool:
    """Tell whether a dotted key lies in a mapping with keys of the user's own: in one of any value at any depth.

    >>> is_own_key("launch.environment.MY_VARIABLE"), is_own_key("launch.environment")
    (True, False)
    >>> is_own_key("launch.request.RetryStrategy.MaximumRetryAttempts"), is_own_key("launch.environment.A.B")
    (True, False)
    """
    mapping = path.rpartition(".")[0]
    depth = 1
    # from the key upwards to the nearest one that is known
    while mapping and mapping not in key_paths():
        mapping, depth = mapping.rpartition(".")[0], depth + 1
    above = key_paths().get(mapping)
    return above is not None and is_mapping(above[0]) and (depth == 1 or item(above[0]) is Any)


def describe(annotation: Any) -> str:
    """Say what value an annotation asks for.

    >>> describe(Annotated[int, Range(ge=1)] | list[float] | None)
    'a whole number >= 1, a list of numbers or null'
    """
    *first, last = map(_describe_member, members(annotation))
    return f"{', '.join(first)} or {last}" if first else last


def _describe_member(annotation: Any) -> str:
    base = bare(annotation)
    if get_origin(base) is Literal:
        values = get_args(base)
        return str(values[0]) if len(values) == 1 else f"one of {', '.join(map(str, values))}"
    if is_list(annotation) or is_mapping(annotation):
        kind = "a list of " if is_list(annotation) else "a mapping of names to "
        return kind + " or ".join(_describe_item(each) for each in members(item(annotation)))
    return _describe_plain(annotation, 0)


def _describe_item(annotation: Any) -> str:
    return _describe_member(annotation) if get_origin(bare(annotation)) is Literal else _describe_plain(annotation, 1)


def _describe_plain(annotation: Any, plural: int) -> str:
    limits = bounds(annotation)
    signs = {">=": limits.ge, ">": limits.gt, "<=": limits.le, "<": limits.lt}
    text = " and ".join(f"{sign} {limit}" for sign, limit in signs.items() if limit is not None)
    return f"{_TYPE_NAMES[bare(annotation)][plural]} {text}".strip()


@functools.cache
def key_paths(cls: type = Settings, prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """Return every dotted key below a class with its annotations: one for each class of a union that has the key."""
    found: dict[str, tuple[Any, ...]] = {}
    for key, annotation in hints(cls).items():
        path = f"{prefix}{key}"
        found[path] = (annotation,)
        for group in groups(annotation):
            if group is PluginSettings:
                continue
            for below, below_annotations in key_paths(group, f"{path}.").items():
                found[below] = found.get(below, ()) + below_annotations
    return found


@functools.cache
def common_keys(cls: type = Settings, prefix: str = "") -> frozenset[str]:
    """Return the dotted keys that every configuration has, whatever is chosen in the unions."""
    found: set[str] = set()
    for key, annotation in hints(cls).items():
        path = f"{prefix}{key}"
        below = [common_keys(group, f"{path}.") for group in groups(annotation) if group is not PluginSettings]
        found |= {path, *frozenset.intersection(*below)} if below else {path}
    return frozenset(found)


def owners(path: str) -> str:
    """Name the choices of a union that have a key which another choice of it lacks.

    >>> owners("model.expansion")
    'it belongs to model=resnet'
    """
    group, _, key = path.rpartition(".")
    classes = [cls for cls in groups(key_paths()[group][0]) if cls is not PluginSettings and key in hints(cls)]
    return f"it belongs to {' and '.join(f'{group}={name_of(cls)}' for cls in classes)}"
