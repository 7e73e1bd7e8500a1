"""Two ranks on the CPU, started as a user starts them: the same numbers as one process, and as hard to kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

TRAIN = Path(__file__).parents[2] / "train.py"
EXITS = {signal.SIGTERM: 143, signal.SIGKILL: 75}


def command(data: Path, output: Path, *overrides: str) -> list[str]:
    return [
        sys.executable,
        str(TRAIN),
        f"data.path={data}",
        f"paths.output_dir={output}",
        f"paths.cache_dir={data / 'cache'}",
        "schema.id=row_id",
        "schema.label=label",
        "data.batch_size=8",
        "data.checks=off",
        "model.width=8",
        "model.depth=1",
        "model.dropout=0",
        "loss.class_weights=balanced",
        "trainer=cpu",
        "trainer.max_epochs=3",
        "trainer.log_interval=0",
        "callbacks.checkpoint.every_n_steps=1",
        *overrides,
    ]


def train(data: Path, output: Path, *overrides: str) -> dict[str, Any]:
    done = subprocess.run(command(data, output, *overrides), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((output / "report.json").read_text())
    return report


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def on_two(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run on two ranks."""
    output = tmp_path_factory.mktemp("two")
    train(tiny_data, output, "trainer.devices=2")
    return output


@pytest.mark.slow
def test_two_ranks_give_the_numbers_of_one(tiny_data: Path, on_two: Path, tmp_path: Path) -> None:
    one = train(tiny_data, tmp_path)
    two = json.loads((on_two / "report.json").read_text())
    scores = [key for key in one if key.startswith(("train_", "val_", "test_"))]
    assert len(scores) == 18
    assert {key: two[key] for key in scores} == pytest.approx({key: one[key] for key in scores}, abs=1e-4)
    alone = weights(tmp_path)
    for name, tensor in weights(on_two).items():
        torch.testing.assert_close(tensor, alone[name], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_ranks_that_are_stopped_go_on_bit_for_bit(
    how: signal.Signals, tiny_data: Path, on_two: Path, tmp_path: Path
) -> None:
    run = subprocess.Popen(command(tiny_data, tmp_path, "trainer.devices=2"), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "checkpoints").glob("last-*.ckpt")):
        assert time.monotonic() < deadline
        assert run.poll() is None, "it ended before it could be stopped"
        time.sleep(0.02)
    if how == signal.SIGKILL:  # one rank alone; the launcher then ends the other
        below = psutil.Process(run.pid).children(recursive=True)
        ranks = [process for process in below if "--standalone" not in process.cmdline()]
        max(ranks, key=lambda rank: rank.pid).kill()
    else:
        run.send_signal(how)
    run.communicate(timeout=240)
    assert run.returncode == EXITS[how]
    assert not (tmp_path / "DONE").exists()
    train(tiny_data, tmp_path, "trainer.devices=2")
    expected = weights(on_two)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path).items())
