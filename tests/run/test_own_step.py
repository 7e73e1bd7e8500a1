"""A subclass of ``Classifier`` takes the step of a whole run, with an own metric as objective, and is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.interrupted import interrupted
from torch import Tensor

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.launch.source.requirements import loose_modules
from tabstep.registry import CLASSIFIERS
from tabstep.run.run import run
from tabstep.training.checkpoint_store import CheckpointStore, load_state
from tabstep.training.classifier import Classifier
from tabstep.training.datamodule import Batch

SMALL = [
    "schema.id=row_id",
    "schema.label=label",
    "data.batch_size=50",
    "model.width=4",
    "model.depth=1",
    "model.num_bins=0",
    "trainer=cpu",
    "trainer.max_epochs=4",
    "report=none",
    "callbacks.progress=none",
    "baselines=null",
    "metrics.extra=[{name: recall, options: {threshold: 0.3}}, specificity]",
    "objective=val_recall",
    "callbacks.early_stopping.monitor=val_specificity",
]
MIXUP = {"name": f"{__name__}:Mixup", "options": {"alpha": 0.4}}


class Mixup(Classifier):
    """Trains on blends of two rows (Zhang et al. 2018, arXiv:1710.09412), and counts what it has blended."""

    blended: Tensor

    def __init__(self, *given: Any, alpha: float = 0.2, **also_given: Any) -> None:
        super().__init__(*given, **also_given)
        self.alpha = alpha
        self.register_buffer("blended", torch.zeros((), dtype=torch.int64))

    def batch_losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        order = torch.randperm(len(batch.y), device=batch.y.device)
        share = torch.distributions.Beta(self.alpha, self.alpha).sample()
        logits = self(share * batch.x_num + (1 - share) * batch.x_num[order], batch.x_cat)
        (losses, weights), (others, _) = self.loss(logits, batch.y), self.loss(logits, batch.y[order])
        self.blended += len(batch.y)
        return logits, share * losses + (1 - share) * others, weights


class Plain(Classifier):
    """The step as it is."""


class Fading(Classifier):
    """Weighs losses by what it has seen: a number and a list that are neither buffers nor parameters."""

    def __init__(self, *given: Any, **also_given: Any) -> None:
        super().__init__(*given, **also_given)
        self.seen, self.means = 0, [0.0]

    def batch_losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        logits, losses, weights = super().batch_losses(batch)
        self.seen += len(batch.y)
        self.means.append(float(losses.detach().mean()))
        return logits, losses * (1.0 + self.means[-2] / self.seen), weights

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["fading"] = {"seen": self.seen, "means": self.means}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.seen, self.means = checkpoint["fading"]["seen"], checkpoint["fading"]["means"]


def train(data: Path, output: Path, classifier: dict[str, Any]) -> dict[str, Any]:
    config = composed([*SMALL, f"data.path={data}", f"paths.cache_dir={output.parent / 'cache'}"], [config_dir()])
    config["classifier"] = classifier
    config["paths"]["output_dir"] = str(output)
    run(parse(config), config)
    found: dict[str, Any] = json.loads((output / "report.json").read_text())
    return found


def last_state(output: Path) -> dict[str, Any]:
    return load_state(CheckpointStore(output / "checkpoints").files("last")[0])


def test_a_step_of_ones_own_is_resumed_bit_for_bit(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny_data, tmp_path / "whole", MIXUP)
    expected = last_state(tmp_path / "whole")
    assert expected["state_dict"]["blended"] == 4 * 200
    with interrupted(monkeypatch):
        train(tiny_data, tmp_path / "killed", MIXUP)
    resumed = train(tiny_data, tmp_path / "killed", MIXUP)
    found = last_state(tmp_path / "killed")
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], tensor), name
    assert {key: value for key, value in resumed.items() if key != "seconds"} == {
        key: value for key, value in whole.items() if key != "seconds"
    }
    history = found["progress"]["history"]
    best = max(history, key=lambda row: (row["val_recall"], -row["val_log_loss"]))
    assert (whole["best_epoch"], whole["extra_metrics"]) == (best["epoch"], ["recall", "specificity"])


def test_what_it_writes_into_a_checkpoint_is_resumed_bit_for_bit(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fading = {"name": f"{__name__}:Fading", "options": {}}
    train(tiny_data, tmp_path / "whole", fading)
    expected = last_state(tmp_path / "whole")
    assert (expected["fading"]["seen"], len(expected["fading"]["means"])) == (4 * 200, 4 * 4 + 1)
    with interrupted(monkeypatch):
        train(tiny_data, tmp_path / "killed", fading)
    train(tiny_data, tmp_path / "killed", fading)
    found = last_state(tmp_path / "killed")
    assert found["fading"] == expected["fading"]
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in expected["state_dict"].items())


@pytest.mark.parametrize(("name", "said"), [("Plain", True), ("Mixup", False), ("Fading", False)])
def test_a_step_without_state_says_so_when_it_is_resumed(
    name: str, said: bool, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("tests.run.test_own_step.SMALL", [part for part in SMALL if "progress" not in part])
    step = {"name": f"{__name__}:{name}", "options": {}}
    with interrupted(monkeypatch):
        train(tiny_data, tmp_path / "run", step)
    train(tiny_data, tmp_path / "run", step)
    line = f"resume: {name} of classifier.name keeps no state of its own"
    assert (line in capsys.readouterr().out) == said


def test_a_subclass_that_changes_nothing_gives_the_same_weights(tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_data, tmp_path / "ours", {"name": "default"})
    train(tiny_data, tmp_path / "plain", {"name": f"{__name__}:Plain", "options": {}})
    train(tiny_data, tmp_path / "mixup", MIXUP)
    ours, plain, mixup = (last_state(tmp_path / name)["state_dict"] for name in ("ours", "plain", "mixup"))
    assert all(torch.equal(plain[name], tensor) for name, tensor in ours.items())
    assert any(not torch.equal(mixup[name], tensor) for name, tensor in ours.items())


def test_its_options_are_checked_before_anything_runs() -> None:
    CLASSIFIERS.check(MIXUP["name"], ["alpha"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"classifier.alhpa: .*:Mixup has no such option; did you mean 'alpha'"):
        CLASSIFIERS.check(MIXUP["name"], ["alhpa"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has no such option"):
        CLASSIFIERS.check(MIXUP["name"], ["make_optimizer"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"is not a tabstep\.training\.classifier\.Classifier class"):
        CLASSIFIERS.check("torch.nn:Linear", [])


def test_a_job_takes_its_code_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text("from tabstep.training.classifier import Classifier\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = composed([*SMALL, f"paths.output_dir={tmp_path}"], [config_dir()])
    config["classifier"] = {"name": "own_parts:Classifier", "options": {}}
    config["metrics"]["extra"].append({"name": "own_parts:Metric", "options": {}})
    assert list(loose_modules(parse(config))) == ["src/own_parts.py"]  # torchmetrics' names need no file
