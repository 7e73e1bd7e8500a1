"""Loss, optimizer and schedule of torch itself in a whole run, and their mistakes before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.run.run import run
from tabstep.training.callbacks.when_to_save import Checkpointer, StopTraining
from tabstep.training.checkpoint_store import CheckpointStore, load_state
from tabstep.training.classifier import Classifier

OF_TORCH: dict[str, dict[str, Any]] = {
    "loss": {"name": "torch.nn:BCEWithLogitsLoss", "options": {"reduction": "none"}},
    "optimizer": {"name": "torch.optim:NAdam", "options": {"lr": 0.01, "weight_decay": 0.1}},
    "scheduler": {"name": "torch.optim.lr_scheduler:StepLR", "options": {"step_size": 3, "gamma": 0.5}},
}


def train(data: Path, output: Path, **parts: dict[str, Any]) -> dict[str, Any]:
    small = ["model.width=4", "model.depth=1", "model.num_bins=0", "trainer=cpu", "trainer.max_epochs=3", "report=none"]
    places = [f"data.path={data}", f"paths.cache_dir={output.parent / 'cache'}", "callbacks.progress=none"]
    config = composed(
        [*small, *places, "schema.label=label", "schema.id=row_id", "data.batch_size=100"], [config_dir()]
    )
    config = {**config, **parts}
    config["paths"]["output_dir"] = str(output)
    run(parse(config), config)
    return load_state(CheckpointStore(output / "checkpoints").files("last")[0])


def test_they_train_and_resume_bit_for_bit(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tiny_data, tmp_path / "whole", **OF_TORCH)
    assert [row["lr"] for row in whole["progress"]["history"]] == [0.01, 0.005, 0.0025]  # two steps an epoch
    groups = whole["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]  # vectors do not decay
    save = Checkpointer._save

    def die(self: Checkpointer, trainer: L.Trainer, module: Classifier) -> None:
        save(self, trainer, module)
        if module.progress.epoch == 1:
            raise StopTraining(15)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "_save", die)
        with pytest.raises(RuntimeError, match="the same command goes on"):
            train(tiny_data, tmp_path / "killed", **OF_TORCH)
    found = train(tiny_data, tmp_path / "killed", **OF_TORCH)
    assert all(torch.equal(value, found["state_dict"][key]) for key, value in whole["state_dict"].items())
    assert found["schedule"] == whole["schedule"]


@pytest.mark.parametrize(
    ("group", "part", "line"),
    [
        ("optimizer", {"name": "torch.optim:NAdma"}, "optimizer.name: torch.optim:NAdma: module 'torch.optim' has no"),
        ("optimizer", {"name": "torch.optim:NAdam", "rl": 1}, "optimizer.rl: torch.optim:NAdam has no such key"),
        (
            "optimizer",
            {"name": "torch.nn:Linear", "out_features": 1},
            "optimizer.name: 'torch.nn:Linear' is not a torch",
        ),
        ("scheduler", {"name": "torch.optim.lr_scheduler:StepLR"}, "scheduler.step_size: is missing"),
        (
            "loss",
            {"name": "torch.nn:MSELoss", "redaction": "none"},
            "loss.redaction: torch.nn:MSELoss has no such option",
        ),
    ],
)
def test_a_mistake_is_one_line(tiny_data: Path, tmp_path: Path, group: str, part: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        train(tiny_data, tmp_path / "run", **{group: part})
    assert str(caught.value).startswith(line)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert "\n" not in str(caught.value)


def test_a_loss_of_the_whole_batch_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss: MSELoss gives \(\) for 3200 rows: .* loss\.reduction=none$"):
        train(tiny_data, tmp_path / "run", loss={"name": "torch.nn:MSELoss"})


def test_class_weights_reach_a_loss_of_torch(tiny_data: Path, tmp_path: Path) -> None:
    """Equal weights change nothing, a heavier positive class does."""
    loss = {"name": "torch.nn:BCEWithLogitsLoss", "options": {"reduction": "none"}}
    plain = train(tiny_data, tmp_path / "plain", loss=loss)
    neutral = {**loss, "options": {**loss["options"], "class_weights": [2.0, 2.0]}}  # type: ignore[dict-item]
    even = train(tiny_data, tmp_path / "even", loss=neutral)
    assert all(
        torch.equal(value, even["state_dict"][key]) for key, value in plain["state_dict"].items() if "loss" not in key
    )
    heavy = train(
        tiny_data, tmp_path / "heavy", loss={**loss, "options": {"reduction": "none", "class_weights": [1, 9]}}
    )
    first = [state["progress"]["history"][0]["train_loss"] for state in (plain, heavy)]
    assert first[1] > first[0]
    with pytest.raises(UserError, match="3 weights for 2 classes"):
        train(
            tiny_data, tmp_path / "wrong", loss={**loss, "options": {"reduction": "none", "class_weights": [1, 2, 3]}}
        )
