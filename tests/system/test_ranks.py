"""Two ranks on the CPU, started as a user starts them: the same numbers as one process, and as hard to kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
import yaml
from safetensors.torch import load_file

from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.system import ranks as module
from tabstep.system.ranks import EXIT_FILE, Ranks, agree_on, current_ranks, run_ranks

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


def test_torchruns_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert current_ranks() == Ranks()
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    ranks = current_ranks()
    assert (ranks.launched, ranks.num_nodes, ranks.node, ranks.local_rank) == (True, 3, 2, 1)


def test_all_ranks_take_what_the_first_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agree_on(Ranks(), "place", "mine") == "mine"
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=30))  # type: ignore[attr-defined]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    said = [agree_on(Ranks(rank=rank, world_size=2), "place", f"of {rank}") for rank in range(2)]
    assert said == ["of 0", "of 0"]


class Child:
    """Stands for torchrun: ``work`` is what its ranks do with the file of the configuration."""

    def __init__(self, work: Callable[[Path], int]) -> None:
        self.work, self.heard = work, list[int]()

    def start(self, command: list[str], **_: Any) -> Child:
        self.command = command
        return self

    def wait(self) -> int:
        return self.work(Path(self.command[-2]))

    def send_signal(self, signum: int) -> None:
        self.heard.append(signum)


def ranks_that(work: Callable[[Path], int], directory: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    child = Child(work)
    monkeypatch.setattr(module.subprocess, "Popen", child.start)
    run_ranks({"seed": 3}, 2, directory / "ranks")
    return child


def test_ranks_get_the_composed_configuration_as_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(file: Path) -> int:
        assert yaml.safe_load(file.read_text()) == {"seed": 3}
        assert file.stat().st_mode & 0o077 == 0
        return 0

    child = ranks_that(work, tmp_path, monkeypatch)
    assert child.command[-1] == str(os.getpid())
    assert "--nproc-per-node=2" in child.command
    assert list((tmp_path / "ranks").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "kind", "line"),
    [
        (
            None,
            RetryError,
            "trainer.devices=2: a rank was killed, perhaps for want of memory: the same command goes on",
        ),
        ("2", UserError, "trainer.devices=2: a rank ended with the message above"),
        ("1", RetryError, "trainer.devices=2: a rank failed; its message stands above: the same command goes on"),
    ],
)
def test_how_a_rank_ended_is_how_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, kind: type[Exception], line: str
) -> None:
    def work(file: Path) -> int:
        if code is not None:
            (file.parent / EXIT_FILE).write_text(code)
        return 1

    with pytest.raises(kind) as caught:
        ranks_that(work, tmp_path, monkeypatch)
    assert str(caught.value) == line


def test_a_signal_is_passed_on_and_the_handlers_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    child = Child(lambda _: (os.kill(os.getpid(), signal.SIGTERM), 143)[1])
    monkeypatch.setattr(module.subprocess, "Popen", child.start)
    with pytest.raises(StoppedError) as caught:
        run_ranks({}, 2, tmp_path)
    assert caught.value.exit_code == 143
    assert child.heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


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
    assert len(scores) == 24
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
