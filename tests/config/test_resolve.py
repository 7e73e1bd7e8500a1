from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from tabstep.config.parse import Unresolved
from tabstep.config.resolve import composition_problem, plain


def test_plain_containers() -> None:
    config = OmegaConf.create({"a": 1, "b": {"c": ["${a}", {"d": "x${a}"}]}, "e": None, "f": "???"})
    assert plain(config) == {"a": 1, "b": {"c": [1, {"d": "x1"}]}, "e": None, "f": "???"}


def test_each_failing_interpolation_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOPE", raising=False)
    config = OmegaConf.create({"a": "${oc.env:NOPE}", "b": ["${nowhere}"], "c": "${oc.env:NOPE,3}"})
    found = plain(config)
    assert found["a"] == Unresolved("the environment variable 'NOPE' is not set")
    assert found["b"] == [Unresolved("Interpolation key 'nowhere' not found")]
    assert found["c"] == "3"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "Could not override 'model.expansion'.\nTo append to your config use +model.expansion=2\n"
            "Key 'expansion' is not in struct\n    full_key: model.expansion\n    object_type=dict",
            "model.expansion: no such key in the composed configuration: it belongs to model=resnet",
        ),
        (
            "Multiple values for experiment. To override a value use 'override experiment: example'",
            "experiment: is chosen twice: give one option, experiment=..., without a '+'",
        ),
        ("In 'train': Could not find 'x'\n\nConfig search path:\n", "In 'train': Could not find 'x'"),
    ],
)
def test_what_hydra_says_is_one_line(message: str, line: str) -> None:
    assert str(composition_problem(ValueError(message))) == line
