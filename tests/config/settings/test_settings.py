"""The defaults stand in the settings and in conf/: one of them could lie."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabstep.config import key_types
from tabstep.config.parse import parse, to_dict
from tabstep.config.settings import Settings
from tabstep.entry import compose_run, config_dir
from tabstep.registry import PluginSettings

CHOICES = [(key, group) for key, found in key_types.hints(Settings).items() for group in key_types.groups(found)]
UNIONS = [
    (key, group)
    for key, group in CHOICES
    if "name" in key_types.hints(group) and group is not PluginSettings and key != "loss"
]


def test_a_run_without_overrides_has_the_defaults_of_the_settings() -> None:
    config, settings = compose_run([])
    assert Settings(paths=settings.paths) == settings
    assert parse(to_dict(settings)) == settings
    assert config["paths"].keys() == {field.name for field in dataclasses.fields(settings.paths)}


@pytest.mark.parametrize(("key", "group"), UNIONS, ids=[group.__name__ for _, group in UNIONS])
def test_an_option_has_the_defaults_of_its_class(key: str, group: type) -> None:
    option = _read(config_dir() / key, key_types.name_of(group) or "")
    of_this_machine = {name for name, value in option.items() if isinstance(value, str) and "${" in value}
    found = to_dict(group(**dict.fromkeys(of_this_machine)))
    assert {**found, **dict.fromkeys(of_this_machine)} == {**option, **dict.fromkeys(of_this_machine)}


def _read(directory: Path, name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((directory / f"{name}.yaml").read_text())
    below = [_read(directory, base) for base in data.pop("defaults", []) if base != "_self_"]
    return {key: value for part in [*below, data] for key, value in part.items()}
