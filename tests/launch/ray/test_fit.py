"""Runs on a local cluster: the same as below torchrun, bit for bit, and as hard to kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("ray.train")

from ray.train import ControllerError, WorkerGroupError

from tabstep.config.parse import parse
from tabstep.config.settings import PathSettings, RaySettings, Settings
from tabstep.errors import RetryError, UserError
from tabstep.launch.ray import fit as module
from tabstep.launch.ray.fit import marks, meaning, task

TRAIN = Path(__file__).parents[3] / "train.py"
PID = """
import os, runpy, sys
open('pid', 'w').write(str(os.getpid()))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
KILLER = """
import os
import signal
from pathlib import Path

import lightning as L


class Killer(L.Callback):
    def __init__(self, marker: str, rank: int) -> None:
        self.marker, self.rank = Path(marker), rank

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        if trainer.global_rank == self.rank and pl_module.progress.step == 30 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def settings(tmp_path: Path, **launch: Any) -> Settings:
    paths = PathSettings(output_dir=str(tmp_path / "out"), cache_dir="cache")
    return Settings(paths=paths, launch=RaySettings(**launch))


def test_a_worker_is_told_a_run_of_its_own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    given = replace(settings(tmp_path, workers=3), tags=["by hunter22"])
    told = task(given)
    assert told["config"]["launch"] == {"name": "local"}
    assert parse(told["config"]).paths == given.paths
    assert told["shown"]["tags"] == ["by ***"]
    assert told["config"]["tags"] == ["by hunter22"]
    assert told["cwd"] == str(tmp_path)
    assert told["logs"] == [str(tmp_path / "out/ray/output.log"), str(tmp_path / "out/ray/errors.log")]


def test_checkpoints_are_known_by_name_and_time(tmp_path: Path) -> None:
    given = settings(tmp_path)
    assert marks(given) == []
    given.paths.checkpoints.mkdir(parents=True)
    file = given.paths.checkpoints / "last-00000003.ckpt"
    file.touch()
    [before] = marks(given)
    os.utime(file, (1, 1))
    assert before.startswith("last-00000003.ckpt ")
    assert marks(given) == ["last-00000003.ckpt 1000000000"] != [before]


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ControllerError(UserError("data.train: is empty")), UserError, "data.train: is empty"),
        (WorkerGroupError("", {1: RetryError("full")}), RetryError, "full"),
        (
            WorkerGroupError("", {1: OSError("it died"), 0: MemoryError("no room")}),
            RetryError,
            "launch.max_failures=2: rank 0: MemoryError: no room; rank 1: OSError: it died: the same command goes on",
        ),
        (KeyError("x"), KeyError, "'x'"),
    ],
)
def test_what_ended_a_run_is_one_line(error: Exception, kind: type[Exception], said: str, tmp_path: Path) -> None:
    found = meaning(error, settings(tmp_path, max_failures=2))
    assert type(found) is kind
    assert str(found) == said


def test_what_a_thread_raises_is_raised_to_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings) -> Any:
        raise ControllerError(UserError("schema.label: no"))

    monkeypatch.setattr(module, "trainer", broken)
    fit = module.Fit(settings(tmp_path))
    (tmp_path / "out" / "ray").mkdir(parents=True)
    (tmp_path / "out" / "ray" / "output.log").touch()
    fit.start()
    assert fit.ended(60.0)
    assert list((tmp_path / "out" / "ray").iterdir()) == []  # of an earlier run
    with pytest.raises(UserError, match=r"^schema.label: no$"):
        fit.value()


@pytest.fixture
def run(tiny_data: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run train.py on a small table, below a program or alone."""
    (tmp_path / "killer.py").write_text(KILLER)
    environ = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}

    def start(output: str, *overrides: str, below: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [
            *(sys.executable, *below, str(TRAIN), "data.path=data", f"paths.output_dir={output}"),
            *("schema.id=row_id", "schema.label=label", "data.batch_size=16", "data.checks=off"),
            *("model.width=8", "model.depth=1", "trainer=cpu", "trainer.max_epochs=4", "trainer.precision=32-true"),
            *("report=none", "paths.cache_dir=cache", "callbacks.progress=lines", *overrides),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=tmp_path)

    (tmp_path / "data").symlink_to(tiny_data)
    return start


def torchrun(workers: int) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}")


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def curve(output: Path) -> list[tuple[str, ...]]:
    """Every score of every epoch, and the steps: other batches would lead to others."""
    with open(output / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name in ("epoch", "step") or name.startswith(("train_", "val_"))]
    assert {"train_loss", "val_loss", "val_auroc"} <= {*names}
    return [tuple(row[name] for name in names) for row in rows]


def assert_equal(found: Path, expected: Path) -> None:
    assert curve(found) == curve(expected)
    ours, theirs = weights(found), weights(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_of_ray_do_what_ranks_of_torchrun_do(
    workers: int, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run("theirs", f"trainer.devices={workers}", below=torchrun(workers))
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("ours", "launch=ray", f"launch.workers={workers}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_equal(tmp_path / "ours", tmp_path / "theirs")
    assert sum(line.startswith("Epoch: 4 ") for line in done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_worker_that_is_killed_changes_nothing(
    resume: str, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    killer = "callbacks.extra=[{name: killer:Killer, options: {marker: MARKER, rank: 1}}]"
    (tmp_path / "calm").touch()
    done = run("theirs", "trainer.devices=2", killer.replace("MARKER", str(tmp_path / "calm")), below=torchrun(2))
    assert done.returncode == 0, done.stdout + done.stderr
    angry = killer.replace("MARKER", str(tmp_path / "angry"))
    more = ("callbacks.checkpoint.every_n_steps=7", f"resume={resume}")
    done = run("ours", "launch=ray", "launch.workers=2", angry, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "angry").exists()
    assert "resume: going on from " in done.stdout
    assert "launch=ray: rank 1: " in done.stderr
    assert not list((tmp_path / "ours").glob("previous-*"))
    assert_equal(tmp_path / "ours", tmp_path / "theirs")


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_stopped_says_so_and_goes_on(
    signum: int, code: int, run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    def stop() -> None:
        while len(list(tmp_path.glob("ours/checkpoints/last-*.ckpt"))) < 2:
            time.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signum)

    threading.Thread(target=stop, daemon=True).start()
    long = ("launch=ray", "trainer.max_epochs=400", "callbacks=no_early_stopping")
    done = run("ours", *long, below=("-c", PID))
    assert done.returncode == code, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    done = run("ours", "launch=ray", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "ours" / "report.json").read_text())["epochs"] > 1  # it had gone further before


@pytest.mark.slow
def test_a_mistake_is_one_line_and_is_not_tried_again(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("ours", "launch=ray", "launch.workers=2", "schema.numeric=[nope]")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("schema.numeric: data.train has no column 'nope'")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_workers_that_are_always_lost_end_the_run_to_be_given_again(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    killer = f"callbacks.extra=[{{name: killer:Killer, options: {{marker: {tmp_path / 'm'}, rank: 0}}}}]"
    done = run("ours", "launch=ray", "launch.workers=2", "launch.max_failures=0", killer)
    assert done.returncode == 75, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("launch.max_failures=0: rank ")
    assert run("ours", "launch=ray", "launch.workers=2", killer).returncode == 0
