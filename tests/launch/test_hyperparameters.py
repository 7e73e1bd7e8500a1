from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError
from tabstep.launch import ModelHyperparameters
from tabstep.launch.hyperparameters import override
from tabstep.schema import Schema

FIELDS: dict[str, Any] = {
    "id_name": "customer_id",
    "label_name": "target",
    "full_field_list": ["customer_id", "target", "feature1", "feature2", "feature3"],
    "tab_field_list": ["feature1", "feature2"],
    "cat_field_list": ["feature3"],
}


def test_it_maps_onto_the_schema_and_the_settings() -> None:
    hyperparameters = ModelHyperparameters(**FIELDS, learning_rate=0.01, batch_size=64, epochs=10)
    assert hyperparameters.schema == Schema(
        id="customer_id", label=("target",), numeric=("feature1", "feature2"), categorical=("feature3",)
    )
    settings = parse(composed(hyperparameters.to_overrides(), [config_dir()]))
    assert (settings.schema.id, settings.schema.label) == ("customer_id", "target")
    assert (settings.schema.numeric, settings.schema.categorical) == (["feature1", "feature2"], ["feature3"])
    assert (settings.optimizer.lr, settings.data.batch_size, settings.trainer.max_epochs) == (0.01, 64, 10)


def test_what_is_not_given_stays_as_conf_has_it() -> None:
    overrides = ModelHyperparameters(**FIELDS, overrides=("model=resnet",)).to_overrides()
    settings = parse(composed(overrides, [config_dir()]))
    assert settings.optimizer.lr == parse(composed([], [config_dir()])).optimizer.lr
    assert settings.model.name == "resnet"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"tab_field_list": ["feature1", "feature9"]},
            "tab_field_list: 'feature9' is not in full_field_list: did you mean",
        ),
        ({"cat_field_list": ["feature9"]}, "cat_field_list: 'feature9' is not in full_field_list"),
        ({"label_name": "targt"}, "label_name: 'targt' is not in full_field_list: did you mean 'target'?"),
        ({"id_name": "id"}, "id_name: 'id' is not in full_field_list"),
        ({"tab_field_list": ["feature1", "target"]}, "tab_field_list: 'target' is the label, and no feature"),
        ({"cat_field_list": ["customer_id"]}, "cat_field_list: 'customer_id' is the id, and no feature"),
        ({"cat_field_list": ["feature1"]}, "tab_field_list, cat_field_list: 'feature1' is in both"),
        ({"tab_field_list": ["feature1", "feature1"]}, "tab_field_list: 'feature1' stands 2 times"),
        ({"full_field_list": [*FIELDS["full_field_list"], "target"]}, "full_field_list: 'target' stands 2 times"),
        ({"tab_field_list": [], "cat_field_list": []}, "tab_field_list, cat_field_list: both are empty"),
        ({"id_name": "target"}, "id_name, label_name: both are 'target'"),
        ({"tab_field_list": "feature1"}, "tab_field_list: expected a list of names, got 'feature1'"),
        ({"learning_rate": 0}, "learning_rate: must be > 0, got 0"),
        ({"epochs": -1}, "epochs: must be > 0, got -1"),
    ],
)
def test_names_that_do_not_fit(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        ModelHyperparameters(**{**FIELDS, **changes})
    assert [found for found in caught.value.problems if found.startswith(line)], caught.value.problems


def test_all_problems_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        ModelHyperparameters(
            **{**FIELDS, "label_name": "x", "tab_field_list": ["y"], "cat_field_list": ["y"], "epochs": 0}
        )
    assert len(caught.value.problems) == 5


@given(st.one_of(st.text(min_size=1), st.lists(st.text(min_size=1), min_size=1)))
def test_hydra_reads_an_override_as_the_value_it_was_made_of(value: str | list[str]) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(override("schema.x", value)).value() == value


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9))
def test_hydra_reads_a_number_as_that_number(value: float) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(override("optimizer.lr", value)).value()
    assert read == value
