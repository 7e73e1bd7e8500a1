"""From the composed configuration as plain containers to ``Settings``: every problem found in one pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tabstep.component_source import Option
from tabstep.config import key_types
from tabstep.config.rules import broken_rules
from tabstep.config.secrets import secret_problems
from tabstep.config.settings import Settings
from tabstep.config.unknown_keys import unknown_key
from tabstep.config.values import fits, one_line, remedy, shown
from tabstep.errors import ProblemsError, nearest
from tabstep.option_types import Scalar
from tabstep.registry import PluginSettings, Registry

MISSING = "???"
PLAIN = Scalar | list[Scalar]
"""What an option of a plugin may be where nothing declares it."""


@dataclass(frozen=True)
class Unresolved:
    """Stands for a value whose interpolation failed."""

    reason: str


def parse(config: Mapping[str, Any]) -> Settings:
    """Check the composed configuration and return it as ``Settings``.

    Numbers are not converted, except a whole one where any number is due; text is never read as something else.

    Raises:
        ProblemsError: one line for every problem.
    """
    problems: list[str] = []
    parsed: dict[str, Any] = {}
    for key, annotation in key_types.hints(Settings).items():
        before = list(problems)
        value = _field(config, key, annotation, "", problems)
        if problems == before:
            parsed[key] = value
    _refuse_unknown(config, Settings, "", problems)
    problems += broken_rules(parsed)
    problems += secret_problems(config)
    if problems:
        raise ProblemsError([one_line(problem) for problem in problems])
    return Settings(**parsed)


def check_value(path: str, annotation: Any, value: Any) -> list[str]:
    """Return the problems of one value, none when it is as its annotation asks."""
    problems: list[str] = []
    _convert(annotation, value, path, problems)
    return problems


def to_dict(settings: Any) -> dict[str, Any]:
    """Return a class of settings as plain containers, in the shape that ``parse`` reads."""
    if isinstance(settings, PluginSettings):
        below = {key: value for key, value in settings.options.items() if key == "name" or isinstance(value, Mapping)}
        beside = {key: value for key, value in settings.options.items() if key not in below}
        return {"name": settings.name, **beside, **({"options": below} if below else {})}
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {key: _plain_part(value) for key, value in values.items()}


def _plain_part(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain_part(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain_part(each) for name, each in value.items()}
    return to_dict(value) if dataclasses.is_dataclass(value) else value


def _field(config: Mapping[str, Any], key: str, annotation: Any, prefix: str, problems: list[str]) -> Any:
    path = f"{prefix}{key}"
    if key in config:
        return _convert(annotation, config[key], path, problems)
    problems.append(f"{path}: is missing")
    return None


def _convert(annotation: Any, value: Any, path: str, problems: list[str]) -> Any:
    if isinstance(value, Unresolved):
        problems.append(f"{path}: {value.reason}")
        return None
    if key_types.groups(annotation):
        return _group(annotation, value, path, problems)
    if isinstance(value, str) and value == MISSING:
        problems.append(f"{path}: is missing: set it to {key_types.describe(annotation)}")
        return None
    for member in key_types.members(annotation):
        if isinstance(value, list) and key_types.is_list(member):
            inner = key_types.item(member)
            return [_convert(inner, each, f"{path}[{i}]", problems) for i, each in enumerate(value)]
        if isinstance(value, Mapping) and key_types.is_mapping(member):
            return _mapping(key_types.item(member), value, path, problems)
        if fits(member, value):
            return float(value) if key_types.bare(member) is float else value
    problems.append(f"{path}: expected {key_types.describe(annotation)}, got {shown(value)}{remedy(annotation, value)}")
    return None


def _mapping(inner: Any, value: Mapping[str, Any], path: str, problems: list[str]) -> dict[str, Any]:
    convert = _plain if inner is Any else partial(_convert, inner)
    return {str(key): convert(each, f"{path}.{key}", problems) for key, each in value.items()}


def _plain(value: Any, path: str, problems: list[str]) -> Any:
    """Take a value of any depth as it is, as long as all of it is known."""
    if isinstance(value, Unresolved):
        problems.append(f"{path}: {value.reason}")
    if isinstance(value, Mapping):
        return {str(key): _plain(each, f"{path}.{key}", problems) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, f"{path}[{i}]", problems) for i, each in enumerate(value)]
    return value


def _group(annotation: Any, value: Any, path: str, problems: list[str]) -> Any:
    classes, registry = key_types.groups(annotation), key_types.registry(annotation)
    if isinstance(value, str) and registry is not None and classes == (PluginSettings,):
        value = {"name": value}  # an item of a list that has no options
    if not isinstance(value, Mapping):
        keys = ", ".join(key_types.hints(classes[0]))
        problems.append(f"{path}: expected the keys {keys}, got {shown(value)}")
        return None
    single = len(classes) == 1 and registry is None
    cls = classes[0] if single else _variant(classes, registry, value, path, problems)
    if cls is None:
        return None
    if registry is not None and cls is PluginSettings:
        return _plugin(registry, value, path, problems)
    before = len(problems)
    values = {key: _field(value, key, inner, f"{path}.", problems) for key, inner in key_types.hints(cls).items()}
    _refuse_unknown(value, cls, f"{path}.", problems)
    return cls(**values) if len(problems) == before else None


def _plugin(registry: Registry, value: Mapping[str, Any], path: str, problems: list[str]) -> PluginSettings:
    """Check what a plugin's source declares; other options are plain, and it knows what they mean."""
    name, below = value["name"], value.get("options") or {}
    if not isinstance(below, Mapping):
        problems.append(f"{path}.options: expected a mapping of names to values, got {shown(below)}")
        below = {}
    beside = {key: inner for key, inner in value.items() if key not in ("name", "options")}
    problems += [f"{path}.{key}: stands below {path}.options too: set one of them" for key in beside if key in below]
    declared = registry.options(name)
    options = {}
    for key, inner in {**beside, **below}.items():
        option = None if declared is None else declared.get(key)
        if option is not None and option.annotation is not None:
            options[key] = _convert(option.annotation, inner, f"{path}.{key}", problems)
        else:
            options[key] = (
                _plain(inner, f"{path}.{key}", problems)
                if key in below
                else _convert(PLAIN, inner, f"{path}.{key}", problems)
            )
    if declared is not None:
        problems += _undeclared(name, options, declared, path, registry.converted)
    return PluginSettings(name=name, options=options)


def _undeclared(
    name: str,
    given: Mapping[str, Any],
    declared: Mapping[str, Option],
    path: str,
    converted: Mapping[str, tuple[str, ...]],
) -> list[str]:
    unknown = [
        f"{path}.{key}: {name} has no such key (got {shown(inner)}): {nearest(key, declared)}"
        for key, inner in given.items()
        if key not in declared and not any(each in declared for each in converted.get(key, ()))
    ]
    missing = [key for key, option in declared.items() if option.required and key not in given]
    return unknown + [f"{path}.{key}: is missing: {name} needs it" for key in missing]


def _variant(
    classes: tuple[type, ...], registry: Registry | None, value: Mapping[str, Any], path: str, problems: list[str]
) -> type | None:
    """Return the class of a union that the value's ``name`` selects."""
    by_name = {name: cls for cls in classes for name in key_types.names_of(cls)}
    name = value.get("name", MISSING)
    if isinstance(name, str) and name in by_name:
        return by_name[name]
    plugins = tuple(registry.plugins()) if registry is not None else ()
    if registry is not None and isinstance(name, str) and registry.find(name) is not None:
        return PluginSettings
    known = (*by_name, *plugins)
    if registry is not None and registry.library is not None and isinstance(name, str) and name != MISSING:
        near = nearest(name, [*plugins, *registry.of_library()])
        problems.append(f"{path}.name: no {registry.noun} is called {shown(name)}: {near}")
    elif not known:
        problems.append(f"{path}.name: expected package.module:Name, got {shown(name)}")
    elif name == MISSING:
        problems.append(f"{path}.name: is missing: set it to one of {', '.join(known)}")
    elif isinstance(name, str):
        expected = f"expected one of {', '.join(known)}"
        near = nearest(name, known)
        problems.append(f"{path}.name: {expected}, got {shown(name)}" + (f": {near}" if near.startswith("did") else ""))
    else:
        problems.append(f"{path}.name: expected one of {', '.join(known)}, got {shown(name)}")
    return None


def _refuse_unknown(config: Mapping[str, Any], cls: type, prefix: str, problems: list[str]) -> None:
    known = key_types.hints(cls)
    for key, value in config.items():
        path = f"{prefix}{key}"
        if key in known:
            continue
        if path in key_types.key_paths():
            problems.append(
                f"{path}: {key_types.name_of(cls)} has no such key (got {shown(value)}): {key_types.owners(path)}"
            )
        else:
            problems.append(f"{path}: no such key (got {shown(value)}): {unknown_key(path)}")
