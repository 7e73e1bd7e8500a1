from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tabstep.config import key_types
from tabstep.config.compose import composed
from tabstep.config.json_schema import experiment_schema, json_schema
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError

DEFAULTS = composed([], [config_dir()])
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_is_a_schema_and_plain_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("override", ["seed=1", "model=resnet", "model=tabm", "optimizer=sgd", "scheduler=one_cycle"])
def test_composed_configuration_is_valid(override: str) -> None:
    VALIDATOR.validate(composed([override], [config_dir()]))


def test_every_group_and_many_keys_are_described() -> None:
    assert all("description" in SCHEMA["properties"][key] or key_types.groups(a) == () or len(key_types.groups(a)) > 1
               for key, a in key_types.hints(Settings).items())  # fmt: skip
    assert SCHEMA["properties"]["data"]["properties"]["eval_batch_size"] == {
        "description": "rows of a batch of val and test",
        "type": "integer",
        "minimum": 1,
    }


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3000)
    | st.sampled_from(["auto", "mlp", "none", "x", "val_loss", 0.5, 1.5])
)


SCORES = ("objective", "callbacks.early_stopping.monitor", "callbacks.checkpoint.monitor")
"""Keys that take names of scores: which there are is a matter of ``metrics.extra``."""


@given(
    st.sampled_from(sorted({*key_types.key_paths(), "typo", "trainer.typo", "model.typo"})),
    PLAIN | st.lists(PLAIN, max_size=2),
)
def test_agrees_with_parse(path: str, value: Any) -> None:
    agrees_with_parse(path, value)


def agrees_with_parse(path: str, value: Any) -> None:
    """Assert that the schema and ``parse`` judge a changed value alike, but for rules between keys: it has none."""
    config = _with(path, value)
    try:
        parse(config)
        lines: tuple[str, ...] = ()
    except ProblemsError as error:
        lines = error.problems
    said_by_type = [line for line in lines if any(mark in line for mark in (": expected", "no such key", "is missing"))]
    if path != "resume" and not (path in SCORES and isinstance(value, str)):
        assert VALIDATOR.is_valid(config) == (not said_by_type or _is_rule(said_by_type))


@pytest.mark.parametrize("path", SCORES)
@pytest.mark.parametrize("value", [None, True, 3, ["val_loss"]])
def test_agrees_on_names_of_scores(path: str, value: Any) -> None:
    agrees_with_parse(path, value)
    VALIDATOR.validate(_with(path, "val_recall"))


def _is_rule(lines: list[str]) -> bool:
    return all("expected two numbers" in line for line in lines)


def _with(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(DEFAULTS)
    *parents, leaf = path.split(".")
    group = config
    for parent in parents:
        group = group[parent]
    group[leaf] = value
    return config


@pytest.mark.parametrize("file", sorted(config_dir().glob("experiment/*.yaml")), ids=lambda file: file.stem)
def test_experiments_are_valid_parts_of_a_configuration(file: Path) -> None:
    jsonschema.Draft202012Validator(experiment_schema()).validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(
    "wrong", [{"data": {"batchsize": 1}}, {"model": {"widht": 64}}, {"seed": "x"}, {"optimzer": {}}]
)
def test_a_mistake_in_an_experiment_is_found(wrong: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(experiment_schema()).is_valid(wrong)
