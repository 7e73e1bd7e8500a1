from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.run.run import run
from tabstep.run_files import REPORT


def report_of(tiny_data: Path, output: Path, *overrides: str) -> dict[str, Any]:
    places = [f"paths.output_dir={output}", f"paths.cache_dir={output.parent}/cache"]
    config = composed(
        [f"data.path={tiny_data}", "schema.label=label", "trainer.max_epochs=1", *places, *overrides], [config_dir()]
    )
    run(parse(config), config)
    report: dict[str, Any] = json.loads((output / REPORT).read_text())
    return report


def test_baselines_stand_beside_the_model(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = report_of(tiny_data, tmp_path / "first", "optimizer=adamw", "optimizer.lr=1e-6", "model.linear=false")
    assert list(first["baselines"]) == ["majority", "logistic_regression"]
    linear = first["baselines"]["logistic_regression"]
    assert linear["test_auroc"] > 0.8 > first["baselines"]["majority"]["test_auroc"] == 0.5
    assert set(linear) < set(first)
    said = capsys.readouterr().out
    assert "test, logistic_regression" in said
    assert "warning: this model is worse than logistic regression on the same columns: val_auroc" in said

    again = report_of(tiny_data, tmp_path / "again", "seed=7")
    assert again["baselines"] == first["baselines"]
    assert "baselines" not in report_of(tiny_data, tmp_path / "none", "baselines=null")
