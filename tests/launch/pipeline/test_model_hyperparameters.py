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

FIELDS: dict[str, Any] = {
    "id_name": "customer_id",
    "label_name": "target",
    "full_field_list": ["customer_id", "target", "feature1", "feature2", "feature3"],
    "tab_field_list": ["feature1", "feature2"],
    "cat_field_list": ["feature3"],
}


def test_it_maps_onto_the_schema_and_the_settings() -> None:
    hyperparameters = ModelHyperparameters(**FIELDS, learning_rate=0.01, batch_size=64, epochs=10)
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
        ({"tab_field_list": [1]}, "tab_field_list: expected a list of names, got [1]"),
        ({"cat_field_list": None}, "cat_field_list: expected a list of names, got None"),
        ({"overrides": "seed=1"}, "overrides: expected a list of overrides, got 'seed=1'"),
        ({"label_name": None}, "label_name: expected the name of a column, got None"),
        ({"id_name": 3}, "id_name: expected the name of a column or None, got 3"),
        ({"learning_rate": 0}, "learning_rate: expected a number > 0, got 0"),
        ({"learning_rate": "0.1"}, "learning_rate: expected a number > 0, got '0.1'"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number > 0, got nan"),
        ({"epochs": -1}, "epochs: expected a whole number > 0, got -1"),
        ({"epochs": 1.5}, "epochs: expected a whole number > 0, got 1.5"),
        ({"batch_size": True}, "batch_size: expected a whole number > 0, got True"),
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


NAMES = st.lists(st.text(min_size=1), min_size=4, max_size=6, unique=True)


@given(NAMES, st.floats(1e-9, 1e3), st.integers(1, 10**9))
def test_hydra_reads_any_names_as_they_are(names: list[str], rate: float, size: int) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    label, key, number, *categories = names
    given_names = ModelHyperparameters(
        id_name=key, label_name=label, full_field_list=names, tab_field_list=[number], cat_field_list=categories,
        learning_rate=rate, batch_size=size,
    )  # fmt: skip
    read = OverridesParser.create().parse_overrides(given_names.to_overrides())
    assert [each.value() for each in read] == [key, label, [number], categories, rate, size]
