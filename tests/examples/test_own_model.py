"""A package of one's own trains, is saved with its code, and is loaded again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import tabstep
from tabstep.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "examples" / "own_model"


def test_a_model_of_ones_own_trains_and_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, str(ROOT / "train.py"), f"--config-dir={OWN / 'conf'}", "model=additive", "debug=fast"]
    command.append("report=none")
    metric = "metrics.extra=[{name: 'decision_cost:DecisionCost', options: {missed: 10}}]"
    overrides = [
        metric,
        "objective=val_decision_cost_loss",
        "model.width=3",
        "trainer=cpu",
        "data.builtin_rows=1000",
        f"paths.cache_dir={tmp_path / 'cache'}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(OWN), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *overrides, f"paths.output_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["extra_metrics"] == ["decision_cost_loss"]
    predictions = pq.read_table(tmp_path / "run" / "predictions" / "val.parquet")
    probs, y = predictions["prob_yes"].to_numpy(), predictions["churned"].to_numpy() == "yes"
    cost = (10 * (y & (probs <= 0.5)) + (~y & (probs > 0.5))).mean()
    assert report["val_decision_cost_loss"] == pytest.approx(cost)
    architecture = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert (architecture["name"], architecture["options"]) == ("additive_model:Additive", {"width": 3, "dropout": 0.1})
    assert (tmp_path / "run" / "model" / "code" / "additive_model.py").is_file()
    monkeypatch.syspath_prepend(OWN)
    assert tabstep.load(tmp_path / "run" / "model").encoder.num_outputs == architecture["num_outputs"]


def test_a_mistake_in_its_options_is_found_without_an_import(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), f"--config-dir={OWN / 'conf'}", "model=additive"]
    environment = {**os.environ, "PYTHONPATH": str(OWN)}
    done = subprocess.run(
        [*command, "model.width=0", "+model.widht=3", "--cfg=job"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "model.width: expected a whole number >= 1, got 0",
        "model.widht: additive_model:Additive has no such key (got 3): did you mean 'width'?",
    ]


def test_its_entry_point_is_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(OWN)
    project = tomllib.loads((OWN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    model = MODELS.load(project["entry-points"][MODELS.package]["additive"])(2, [4, 3], 3, width=5).eval()
    x_num, x_cat = torch.randn(6, 2), torch.tensor([[0, 1], [3, 2], [1, 0], [2, 2], [0, 0], [3, 1]])
    expected = model.bias.expand(6, 3)
    for row in range(6):
        curves = [curve(x_num[row, i].view(1, 1))[0] for i, curve in enumerate(model.curves)]
        values = [value.weight[x_cat[row, i]] for i, value in enumerate(model.values)]
        torch.testing.assert_close(model(x_num, x_cat)[row], sum([*curves, *values], start=expected[row]))
