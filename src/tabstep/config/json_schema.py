"""The configuration as a JSON Schema (draft 2020-12), for editors and for other programs."""

from __future__ import annotations

import inspect
from typing import Any, Literal, get_args, get_origin

from tabstep.config import key_types
from tabstep.config.settings import Settings
from tabstep.registry import PluginSettings, Registry

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def json_schema() -> dict[str, Any]:
    """Return the schema of the composed configuration: every key is required, and there are no others."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tabstep",
        **_object(Settings, (), None),
    }


def experiment_schema() -> dict[str, Any]:
    """Return the schema of a file that sets a part of the configuration, as those of conf/experiment/ do.

    No key is required, and Hydra's own ``defaults`` and ``hydra`` may stand at the top.
    """
    found = json_schema()
    _require_nothing(found)
    found["properties"] |= {"defaults": {"type": "array"}, "hydra": {"type": "object"}}
    return found


def _require_nothing(node: Any) -> None:
    if isinstance(node, dict) and node.get("additionalProperties") is False:  # a plugin's model still needs its name
        node.pop("required", None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _require_nothing(child)


def _object(cls: type, other_names: tuple[str, ...], registry: Registry | None) -> dict[str, Any]:
    if cls is PluginSettings:
        installed = [] if registry is None else sorted(registry.plugins())
        # package.module:Name, or a name that an installed package has registered
        forms = [{"pattern": ":"}, *({"const": entry_point} for entry_point in installed)]
        name: dict[str, Any] = {"type": "string", "not": {"enum": list(other_names)}, "anyOf": forms}
        about = {"type": "object", "description": inspect.getdoc(cls)}
        return {**about, "properties": {"name": name}, "required": ["name"]}
    hints = key_types.hints(cls)
    return {
        "type": "object",
        "description": inspect.getdoc(cls),
        "properties": {key: _described(annotation) for key, annotation in hints.items()},
        "required": list(hints),
        "additionalProperties": False,
    }


def _described(annotation: Any) -> dict[str, Any]:
    text = key_types.doc(annotation)
    return {**({"description": text} if text else {}), **_value(annotation)}


def _value(annotation: Any) -> dict[str, Any]:
    members = key_types.members(annotation)
    if len(members) > 1:
        names = tuple(name for group in key_types.groups(annotation) for name in key_types.names_of(group))
        known = key_types.registry(annotation)
        return {"anyOf": [_object(m, names, known) if key_types.groups(m) else _value(m) for m in members]}
    base = key_types.bare(annotation)
    if base is Any:
        return {}
    if key_types.groups(annotation):
        return _object(key_types.groups(annotation)[0], (), key_types.registry(annotation))
    if get_origin(base) is Literal:
        return {"enum": list(get_args(base))}
    if key_types.is_list(annotation):
        return {"type": "array", "items": _value(key_types.item(annotation))}
    if key_types.is_mapping(annotation):
        return {"type": "object", "additionalProperties": _value(key_types.item(annotation))}
    limits = vars(key_types.bounds(annotation))
    return {"type": _TYPES[base], **{_KEYWORDS[key]: limit for key, limit in limits.items() if limit is not None}}
