"""Components of other packages: found by name, their options read from source that no one has imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest

from tabstep.component_source import find_file, find_module
from tabstep.errors import UserError
from tabstep.option_types import Count, Doc, Fraction, Range
from tabstep.registry import CALLBACKS, MODELS, Registry

SOURCE = '''
raise RuntimeError("nobody imports this")

class Net(Module):
    """A network."""

    size = 3

    def forward(self, x_num, x_cat): ...

    def __init__(self, num_numeric, cardinalities, num_outputs, width: Count = 8, *,
                 rate: Annotated[Fraction, Doc("share")], low: Annotated[float, Range(ge=-1)] = 0.5,
                 kind: Literal["a", "b"] | None = None, sizes: list[int] = (), other: Path = None, bare=1,
                 quoted: "int" = 2, typed: typing.Annotated[int, option_types.Range(gt=0)] = 1): ...

class Open(Module):
    def __init__(self, num_numeric, cardinalities, num_outputs, **options): ...

class Heir(Net):
    pass

def net(num_numeric, cardinalities, num_outputs, *, width: int): ...
'''


def install(directory: Path, name: str, source: str, entry_points: str) -> None:
    """Leave what an installation of a package with one module leaves."""
    (directory / f"{name}.py").write_text(source)
    info = directory / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.2\n")
    (info / "top_level.txt").write_text(f"{name}\n")
    (info / "entry_points.txt").write_text(f"[tabstep.models]\n{entry_points}")


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "registered_nets", SOURCE, "net = registered_nets:Net\nmlp = registered_nets:Net\n")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "__init__.py").write_text("raise RuntimeError('nobody imports this')")
    (tmp_path / "loose" / "nets.py").write_text("class Net:\n    pass\n")
    (tmp_path / "loose" / "my_net.py").write_text("class MyNet:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_name_is_ours_or_an_entry_point_or_a_path() -> None:
    assert MODELS.find("mlp") == "tabstep.models.mlp:MLP"  # cannot be taken over
    assert MODELS.find("net") == "registered_nets:Net"
    assert MODELS.find("loose.nets:Net") == "loose.nets:Net"
    assert MODELS.find("nte") is None
    assert list(MODELS.plugins()) == ["net"]


@pytest.mark.parametrize("name", ["net", "registered_nets:Net"])
def test_options_are_read_without_an_import(name: str) -> None:
    options = MODELS.options(name)
    assert options is not None
    assert {key: (option.annotation, option.required) for key, option in options.items()} == {
        "width": (Count, False),
        "rate": (Annotated[Fraction, Doc("share")], True),
        "low": (Annotated[float, Range(ge=-1)], False),
        "kind": (Literal["a", "b"] | None, False),
        "sizes": (list[int], False),
        "other": (None, False),
        "bare": (None, False),
        "quoted": (None, False),
        "typed": (Annotated[int, Range(gt=0)], False),
    }
    assert "registered_nets" not in sys.modules


def test_a_function_declares_options_too() -> None:
    options = MODELS.options("registered_nets:net")
    assert options is not None
    assert {key: option.annotation for key, option in options.items()} == {"width": int}


@pytest.mark.parametrize(
    "name", ["registered_nets:Open", "registered_nets:Heir", "loose.nets:Net", "math:pi", "no:Net"]
)
def test_options_that_the_source_does_not_tell(name: str) -> None:
    assert MODELS.options(name) is None


def test_the_distribution_is_what_a_job_installs() -> None:
    for name in ("net", "registered_nets:Net"):
        found = MODELS.distribution(name)
        assert found is not None
        assert (found.name, found.version) == ("registered-nets", "1.2")
    assert MODELS.distribution("mlp") is None
    assert MODELS.distribution("loose.nets:Net") is None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nte", "model.name: no model is called 'nte'; did you mean 'net'?"),
        ("nowhere.nets:Net", "model.name: nowhere.nets:Net: no module is called 'nowhere': install it"),
        ("decimal:Dceimal", "model.name: decimal:Dceimal: module 'decimal' has no attribute 'Dceimal'"),
    ],
)
def test_a_mistake_is_one_line(name: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        MODELS.load(name)
    assert str(caught.value) == line


def test_a_module_is_found_without_its_packages(tmp_path: Path) -> None:
    assert find_file("loose.nets") == tmp_path / "loose" / "nets.py"
    assert "loose" not in sys.modules
    assert find_module("loose.nets.deeper") is None
    assert find_module("math") is not None
    assert find_file("math") is None


def test_a_name_is_followed_to_the_module_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "loose" / "door.py").write_text("from registered_nets import Net as Network\n")
    (tmp_path / "loose" / "inner").mkdir()
    (tmp_path / "loose" / "inner" / "__init__.py").write_text("from ..door import Network\nfrom .round import Round\n")
    (tmp_path / "loose" / "inner" / "round.py").write_text("from . import Round\n")
    assert MODELS.options("loose.inner:Network") == MODELS.options("net")
    assert MODELS.options("loose.inner:Round") is None
    assert "loose.inner" not in sys.modules


def test_the_options_of_lightning_cost_no_import_of_it() -> None:
    options = CALLBACKS.options("lightning.pytorch.callbacks:EarlyStopping")
    assert options is not None
    assert (options["monitor"].required, options["patience"].annotation) == (True, int)
    assert options["check_on_train_epoch_end"].annotation == bool | None


def test_another_kind_is_another_registry() -> None:
    scalers = Registry(key="scaler", package="loose", given=())
    assert scalers.ours() == {"my_net": "loose.my_net:MyNet"}
    with pytest.raises(UserError, match=r"scaler\.name: no scaler is called 'net'; did you mean 'my_net'\?"):
        scalers.load("net")
