from __future__ import annotations

import json

import pytest

from tabstep.errors import ProblemsError
from tabstep.schema import Schema


def test_features_are_numbers_first_and_columns_in_the_order_of_their_roles() -> None:
    schema = Schema(id="i", label=("b", "a"), numeric=("z", "y"), categorical=("c",))
    assert schema.features == ("z", "y", "c")
    assert schema.columns == ("i", "b", "a", "z", "y", "c")
    assert Schema(label=("a",), numeric=("z",), categorical=()).columns == ("a", "z")


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ProblemsError) as caught:
        Schema(id="x", label=(), numeric=("x",), categorical=("x",))
    assert caught.value.problems == (
        "schema: column 'x' has 3 roles among id, label, weight, numeric and categorical: give it one",
        "schema.label: is missing: name the column to predict",
    )
    with pytest.raises(ProblemsError, match="no feature column is left"):
        Schema(label=("y",), numeric=(), categorical=())


def test_json_goes_round() -> None:
    schema = Schema(id=None, label=("ä",), numeric=(), categorical=('a "quote"', "two\nlines"))
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
