from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.run import linear_start as module
from tabstep.run.linear_start import linear_start
from tabstep.run.prepare import prepare
from tabstep.run.prepared import Prepared
from tabstep.run.sizes import build_architecture


@pytest.fixture(scope="module")
def prepared(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    settings = parse(composed([f"data.path={tiny_data}", "schema.label=label"], [config_dir()]))
    cache = tmp_path_factory.mktemp("cache")
    return prepare(settings.data, settings.schema, seed=0, cache_dir=cache, show=lambda _: None)


def test_it_is_fitted_once(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = linear_start(prepared, tmp_path)
    assert bool(first.numeric.any())

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(module, "fit_start", again)
    second = linear_start(prepared, tmp_path)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize(
    ("asked", "rows", "expected"), [("auto", 499, True), ("auto", 2_000, False), ("true", 9_999, True)]
)
@pytest.mark.parametrize("model", ["dcn", "ft_transformer", "mlp", "pack", "realmlp", "resnet", "tabm"])
def test_few_rows_ask_for_it(prepared: Prepared, model: str, asked: str, rows: int, expected: bool) -> None:
    settings = parse(composed([f"model={model}", f"model.linear={asked}"], [config_dir()]))
    assert build_architecture(settings, prepared.encoder, rows).options["linear"] is expected
