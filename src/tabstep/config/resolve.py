"""From OmegaConf to plain containers, keeping account of every interpolation that fails."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tabstep.config import key_types
from tabstep.config.parse import MISSING, Unresolved
from tabstep.config.unknown_keys import unknown_key
from tabstep.errors import UserError

# how lines of Hydra's and OmegaConf's messages begin that help nobody
_DETAILS = (
    "full_key:",
    "object_type=",
    "See https",
    "To append to your config",
    "Config search path",
    "provider=",
    "Key '",
)


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
        return Unresolved(_reason_of(error))
    if isinstance(value, DictConfig):
        return plain(value)
    if isinstance(value, ListConfig):
        return [_value(value, index) for index in range(len(value))]
    return value


def composition_problem(error: Exception) -> UserError:
    """Return what Hydra says about a configuration that it cannot compose, as one line."""
    message = str(error)
    if isinstance(error, RecursionError):
        return UserError("a configuration file is nested too deeply: write its keys as options have them")
    if isinstance(error, UnicodeDecodeError):
        return UserError(f"a configuration file is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8")
    if (match := re.match(r"Could not override '([^']+)'", message)) and (add := _addition(match[1], message)):
        return UserError(f"{match[1]}: {add}")
    if match := re.match(r"Could not override '([^']+)'", message):
        return UserError(f"{match[1]}: no such key in the composed configuration: {_near(match[1])}")
    if match := re.match(r"Multiple values for ([\w/]+)\.", message):
        return UserError(f"{match[1]}: is chosen twice: give one option, {match[1]}=..., without a '+'")
    lines = [line.strip() for line in message.splitlines()]
    kept = [line for line in lines if line and not line.startswith(_DETAILS)]
    return UserError(_shortened(" ".join(kept)))


def _reason_of(error: Exception) -> str:
    return _shortened(str(error).partition("\n")[0])


def _shortened(text: str) -> str:
    """Leave out what is said about Python's exceptions."""
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", text)
    return re.sub(r"^\"Environment variable '(\w+)' not found\"", r"the environment variable '\1' is not set", text)


def _addition(key: str, message: str) -> str:
    """Return the remedy for a new name in a mapping with names of the user's own, or nothing."""
    mapping = key.rpartition(".")[0] if key_types.is_own_key(key) else key
    annotations = key_types.key_paths().get(mapping)
    if (
        annotations is None
        or not key_types.is_mapping(annotations[0])
        or f"Key '{mapping.rpartition('.')[2]}'" in message
    ):
        return ""  # none, or the chosen option lacks the whole mapping
    return f"a new name needs a '+' before it: +{mapping}.NAME=value"


def _near(key: str) -> str:
    return key_types.owners(key) if key in key_types.key_paths() else unknown_key(key)
