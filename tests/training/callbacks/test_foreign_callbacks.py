"""Lightning's own callbacks in a whole run: they see its scores, and what they remember is resumed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.interrupted import interrupted

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.registry import CALLBACKS, PluginSettings
from tabstep.run.run import run
from tabstep.training.callbacks.foreign_callbacks import build_callbacks, check_states
from tabstep.training.checkpoint_store import CheckpointStore, load_state

STOCK = "lightning.pytorch.callbacks:"
SMALL = [
    "schema.id=row_id",
    "schema.label=label",
    "data.batch_size=100",
    "model.width=4",
    "model.depth=1",
    "model.num_bins=0",
    "trainer=cpu",
    "trainer.max_epochs=6",
    "report=none",
    "callbacks.progress=none",
]


def train(data: Path, output: Path, *extra: dict[str, Any], overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    config = composed(
        [*SMALL, f"data.path={data}", f"paths.cache_dir={output.parent / 'cache'}", *overrides], [config_dir()]
    )
    config["callbacks"]["extra"] = list(extra)
    config["paths"]["output_dir"] = str(output)
    run(parse(config), config)
    found: dict[str, Any] = json.loads((output / "report.json").read_text())
    return found


def last_state(output: Path) -> dict[str, Any]:
    return load_state(CheckpointStore(output / "checkpoints").files("last")[0])


def early_stopping(patience: int = 1) -> dict[str, Any]:
    """Any epoch is worse than the first by so much."""
    return {
        "name": f"{STOCK}EarlyStopping",
        "options": {"monitor": "val_auroc", "mode": "max", "min_delta": 1.0, "patience": patience},
    }


def test_early_stopping_ends_a_run_and_goes_on_counting(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny_data, tmp_path / "whole", early_stopping(patience=3))
    assert whole["stop_reason"] == "stopped by a callback of callbacks.extra"
    expected = last_state(tmp_path / "whole")
    assert expected["progress"]["epoch"] == 4  # the first, and three without progress
    with interrupted(monkeypatch):
        train(tiny_data, tmp_path / "killed", early_stopping(patience=3))
    assert train(tiny_data, tmp_path / "killed", early_stopping(patience=3))["stop_reason"] == whole["stop_reason"]
    found = last_state(tmp_path / "killed")
    assert found["progress"]["epoch"] == 4
    assert found["callbacks"] == expected["callbacks"]
    assert all(torch.equal(value, found["state_dict"][key]) for key, value in expected["state_dict"].items())


def test_a_run_that_was_stopped_stays_stopped(tiny_data: Path, tmp_path: Path) -> None:
    train(tiny_data, tmp_path / "run", early_stopping())
    (tmp_path / "run" / "report.json").unlink()  # as a kill before the export leaves it
    assert train(tiny_data, tmp_path / "run", early_stopping())["stop_reason"].startswith("stopped by a callback")
    assert last_state(tmp_path / "run")["progress"]["epoch"] == 2
    with pytest.raises(ProblemsError, match=r"resume: callbacks\.extra was"):
        train(tiny_data, tmp_path / "run", early_stopping(patience=2))


def test_the_learning_rate_is_logged(tiny_data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = {"name": f"{STOCK}LearningRateMonitor", "options": {"logging_interval": "step"}}
    overrides = ("optimizer=sgd", "optimizer.lr=0.25", "trainer.max_epochs=1", "logger=tensorboard")
    train(tiny_data, tmp_path / "run", monitor, overrides=overrides)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("lr-SGD/pg1")] == [0.25, 0.25]  # 200 rows in batches of 100


def test_a_monitor_without_a_logger_is_one_line(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^callbacks\.extra: Cannot use `LearningRateMonitor` .* no logger\.$"):
        train(tiny_data, tmp_path / "run", {"name": f"{STOCK}LearningRateMonitor"})


def test_the_model_is_summarized(tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(
        tiny_data,
        tmp_path / "run",
        {"name": f"{STOCK}ModelSummary", "max_depth": 1},
        overrides=("model=mlp", "debug=fast"),
    )
    state = last_state(tmp_path / "run")["state_dict"]
    weights = sum(value.numel() for key, value in state.items() if key.startswith("model."))
    assert weights < 1000  # above, the table rounds
    assert re.search(rf"\| model +\| MLP +\| {weights} +\|", caplog.text), caplog.text


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ({"name": f"{STOCK}EarlyStoping"}, "has no attribute 'EarlyStoping'"),
        ({"name": "decimal:Decimal"}, r"callbacks\.extra\[0\]\.name: 'decimal:Decimal' is not a lightning"),
        ({"name": "none"}, r"callbacks\.extra\[0\]\.name: expected package\.module:Name, got 'none'"),
        ({}, r"callbacks\.extra\[0\]\.name: expected package\.module:Name"),
        (
            {"name": f"{STOCK}EarlyStopping", "options": {"monitor": "val_f1", "patienec": 3}},
            r"callbacks\.extra\[0\]\.patienec: .* no such key \(got 3\): did you mean 'patience'\?",
        ),
        (
            {"name": f"{STOCK}EarlyStopping", "options": {"monitor": "val_f1", "mode": "up"}},
            r"callbacks\.extra\[0\]: .*EarlyStopping: `mode` can be min, max",
        ),
        ({"name": f"{STOCK}EarlyStopping"}, r"callbacks\.extra\[0\]\.monitor: is missing"),
    ],
)
def test_a_mistake_is_one_line(tiny_data: Path, tmp_path: Path, part: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        train(tiny_data, tmp_path / "run", part)
    assert "\n" not in str(caught.value)


def test_one_place_for_the_state_of_one() -> None:
    part = PluginSettings(name=f"{STOCK}EarlyStopping", options={"monitor": "val_f1"})
    with pytest.raises(UserError, match="stands twice"):
        build_callbacks([part, part])
    assert CALLBACKS.distribution(part.name) is not None


def test_a_state_that_cannot_be_read_again_is_refused() -> None:
    check_states({"mine": {"best": torch.ones(1), "counts": [1, 2]}})
    with pytest.raises(UserError, match=r"callbacks\.extra: mine: its state holds more than"):
        check_states({"mine": {"path": Path("a")}})
