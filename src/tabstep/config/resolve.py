"""From OmegaConf to plain containers, keeping account of every interpolation that fails."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tabstep.config import fields
from tabstep.config.parse import MISSING, Unresolved, unknown_key
from tabstep.errors import UserError

_RAISED = re.compile(r"^\w+ raised while resolving interpolation: ")
_DETAILS = ("full_key:", "object_type=", "See https", "To append to your config", "Config search path", "Key '")


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain containers with interpolations resolved.

    A value that cannot be resolved becomes ``Unresolved``, and a missing one stays ``"???"``: ``parse`` reports both.
    """
    return {str(key): _value(config, key) for key in config}


def _value(container: DictConfig | ListConfig, key: Any) -> Any:
    if OmegaConf.is_missing(container, key):
        return MISSING
    try:
        value = container[key]
    except OmegaConfBaseException as error:
        return Unresolved(_RAISED.sub("", str(error).splitlines()[0]))
    if isinstance(value, DictConfig):
        return plain(value)
    if isinstance(value, ListConfig):
        return [_value(value, index) for index in range(len(value))]
    return value


def composition_problem(error: Exception) -> UserError:
    """Return what Hydra says about a configuration that it cannot compose, as one line."""
    message = _RAISED.sub("", str(error))
    if match := re.match(r"Could not override '([^']+)'", message):
        return UserError(f"{match[1]}: no such key in the composed configuration: {_reason(match[1])}")
    if match := re.match(r"Multiple values for ([\w/]+)\.", message):
        return UserError(f"{match[1]}: is chosen twice: give one option, {match[1]}=..., without a '+'")
    lines = [line.strip() for line in message.splitlines()]
    kept = [line for line in lines if line and not line.startswith(_DETAILS)]
    return UserError(" ".join(kept))


def _reason(key: str) -> str:
    return fields.owners(key) if key in fields.key_paths() else unknown_key(key)
