"""``launch.request``: fields of the CreateTrainingJob request that have no key, laid over what is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tabstep.launch.request.aws_facts import table

_INSTEAD: Final = {"InstanceGroups", "InstancePreferences"}
"""Fields of ResourceConfig that say which instances there are in the place of one type and its count."""


def overlaid(request: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with the fields of an overlay: those of structures one by one, all else as a whole.

    >>> overlaid({"A": {"x": 1}, "B": [1]}, {"A": {"y": 2}, "B": [2]})
    {'A': {'x': 1, 'y': 2}, 'B': [2]}
    """
    merged = dict(request)
    if _INSTEAD & overlay.keys():
        merged = {key: value for key, value in merged.items() if key not in ("InstanceType", "InstanceCount")}
    for key, value in overlay.items():
        below = merged.get(key)
        merged[key] = overlaid(below or {}, value) if isinstance(value, Mapping) and _is_open(below) else value
    return merged


def overlay_problems(overlay: Mapping[str, Any]) -> list[str]:
    """Return one line for each field that has a key of its own, which would be overruled in silence."""
    return [
        f"launch.request.{path}: has a key of its own: set {'the override' if key == 'hyperparameter' else key}"
        for path in _paths(overlay, "")
        for field, key in table("keys").items()
        if path == field or path.startswith(f"{field}.")
    ]


def named(lines: Sequence[str], overlay: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a request, with the fields of an overlay by the name that a person gave them."""
    fields = tuple(f"{field}{end}" for field in overlay for end in (".", ":", "["))
    return [f"launch.request.{line}" if line.startswith(fields) else line for line in lines]


def instances(overlay: Mapping[str, Any]) -> list[list[tuple[str, int]]]:
    """Return types and counts of the instances that an overlay asks for: alternatives of groups, or nothing."""
    resources = overlay.get("ResourceConfig")
    resources = resources if isinstance(resources, Mapping) else {}
    groups, preferences = (_instances(resources.get(name)) for name in ("InstanceGroups", "InstancePreferences"))
    return [groups] if groups else [[preference] for preference in preferences]


def rule_instances(overlay: Mapping[str, Any]) -> list[str]:
    """Return the fields of an overlay that rent an instance for a rule of the debugger or the profiler.

    >>> rule_instances({"ProfilerRuleConfigurations": [{"RuleConfigurationName": "a", "InstanceType": "ml.m5.large"}]})
    ['launch.request.ProfilerRuleConfigurations[0].InstanceType']
    """
    return [
        f"launch.request.{name}[{index}].InstanceType"
        for name in ("DebugRuleConfigurations", "ProfilerRuleConfigurations")
        for index, rule in enumerate(_entries(overlay.get(name)))
        if rule.get("InstanceType") is not None
    ]


def _instances(given: Any) -> list[tuple[str, int]]:
    instances = [(entry.get("InstanceType"), entry.get("InstanceCount", 1)) for entry in _entries(given)]
    return [(kind, count) for kind, count in instances if isinstance(kind, str) and isinstance(count, int)]


def _entries(given: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list) else []


def _is_open(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _paths(below, f"{path}.{key}" if path else str(key))
    else:
        yield path
