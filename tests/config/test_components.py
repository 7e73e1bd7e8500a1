from __future__ import annotations

from pathlib import Path

import pytest

from tabstep.config.components import missing_components
from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir

OWN = """
from math import sqrt as root
try:
    from nowhere import Fast
except ImportError:
    Fast = None
class Model: ...
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts_here.py").write_text(OWN)
    (tmp_path / "starred_here.py").write_text("from torch.nn import *\n")
    (tmp_path / "broken_top.py").write_text("raise SystemError('was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)


def problems_of(*overrides: str) -> list[str]:
    return missing_components(parse(composed(["paths.output_dir=x", *overrides], [config_dir()])))


@pytest.mark.parametrize("name", ["Model", "root", "Fast"])
def test_what_a_module_defines_in_any_way_is_there(name: str) -> None:
    assert problems_of(f"model.name=own_parts_here:{name}") == []


@pytest.mark.parametrize("target", ["starred_here:Linear", "torch.nn:NoSuchLoss"])
def test_what_is_not_seen_without_an_import_is_left_to_it(target: str) -> None:
    assert problems_of(f"loss.name={target}") == []


def test_each_lacking_one_is_a_line_with_its_key() -> None:
    extra = "{name: 'lightning.pytorch.callbacks:EarlyStoping'}, {name: 'lightning.pytorch.callbacks:Timer'}"
    found = problems_of(
        "model.name=own_parts_here:Modle", "loss.name=no_such_package.losses:Loss", f"callbacks.extra=[{extra}]"
    )
    assert sorted(found) == [
        "callbacks.extra[0].name: lightning.pytorch.callbacks:EarlyStoping: module 'lightning.pytorch.callbacks' "
        "has no attribute 'EarlyStoping': did you mean 'EarlyStopping'?",
        "loss.name: no_such_package.losses:Loss: no module is called 'no_such_package': install it",
        "model.name: own_parts_here:Modle: module 'own_parts_here' has no attribute 'Modle': did you mean 'Model'?",
    ]


def test_nothing_is_imported() -> None:
    assert problems_of("model.name=broken_top:Model") == [
        "model.name: broken_top:Model: module 'broken_top' has no attribute 'Model'"
    ]
