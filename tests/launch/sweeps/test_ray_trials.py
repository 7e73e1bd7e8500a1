"""Trials on a cluster: that of a test's own for the interface, a real one for a sweep that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from safetensors.torch import load_file

from hydra_plugins.tabstep_sweeper import RayLauncher
from tabstep.config.settings import RaySettings, Settings
from tabstep.entry import compose_run
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.launch.ray import resources
from tabstep.launch.sweeps import ray_trials as module
from tabstep.launch.sweeps.ray_trials import RayRunner, ray_runner
from tabstep.sweep.runner_interface import Job, TrialResult

TRAIN = Path(__file__).parents[3] / "train.py"
COMPOSED = OmegaConf.create({"hydra": {"output_subdir": ".hydra", "overrides": {"task": ["a=1"]}}, "a": 1})


@dataclass
class Fit:
    """A trial that ends at the second look, with a value or an error."""

    settings: Settings
    ends: Any = 0.5
    looks: int = 0

    def start(self) -> None: ...

    def ended(self, seconds: float) -> bool:
        self.looks += 1
        return self.looks > 1

    def value(self) -> float:
        if isinstance(self.ends, Exception):
            raise self.ends
        return float(self.ends)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    @contextmanager
    def connected(settings: Settings, runs: int) -> Iterator[None]:
        seen.append(f"for {runs}")
        yield
        seen.append("closed")

    def check_room(launch: RaySettings) -> None:
        seen.append(f"room for {launch.workers}")

    monkeypatch.setattr(module, "connected", connected)
    monkeypatch.setattr(module, "check_room", check_room)
    monkeypatch.setattr(module, "Fit", Fit)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    return seen


def job(tmp_path: Path, number: int = 0, *overrides: str) -> Job:
    config, _ = compose_run(["launch=ray", f"paths.output_dir={tmp_path}", *overrides])
    return Job(number, ("a=1",), tmp_path / str(number), config, COMPOSED)


def test_trials_share_a_cluster_that_ends_with_them(tmp_path: Path, connections: list[str]) -> None:
    runner = RayRunner(2)
    runner.start(job(tmp_path, 0))
    runner.start(job(tmp_path, 1, "launch.workers=3"))
    assert runner.fits[0].settings.callbacks.progress == "lines"
    results = runner.wait(60.0)
    assert [result.number for result in results] == [0, 1]
    assert all(result.value == 0.5 for result in results)
    assert (tmp_path / "1" / ".hydra" / "overrides.yaml").read_text() == "- a=1\n"
    assert connections == ["for 2", "room for 3"]
    runner.stop()
    assert connections[2:] == ["closed"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("data.train: no"), TrialResult(number=0, error="data.train: no")),
        (RetryError("lost"), TrialResult(number=0, error="lost", lost=True)),
    ],
)
def test_how_a_trial_fails(
    error: Exception, expected: TrialResult, tmp_path: Path, connections: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Fit", lambda settings: Fit(settings, error))
    runner = RayRunner(1)
    runner.start(job(tmp_path))
    assert runner.wait(60.0) == [expected]


def test_a_stop_and_a_fault_are_told_apart(
    tmp_path: Path, connections: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StoppedError("stopped", signal.SIGTERM)
    for error in (stop, KeyError("x")):
        monkeypatch.setattr(module, "Fit", lambda settings, error=error: Fit(settings, error))
        runner = RayRunner(1)
        runner.start(job(tmp_path))
        [result] = runner.wait(60.0)
        assert (result.stopped, result.error) == ((stop, None) if error is stop else (None, "KeyError: 'x'"))


def test_what_is_no_run_on_a_cluster_is_refused(tmp_path: Path, connections: list[str]) -> None:
    with pytest.raises(UserError, match=r"^hydra/launcher=ray_train: the trials run on a cluster: add launch=ray$"):
        RayRunner(1).start(job(tmp_path, 0, "launch=local"))
    assert connections == []


def test_numbers_and_sweepers_that_make_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=r"^hydra.launcher.max_parallel: expected a whole number >= 1, got 0$"):
        ray_runner(0)
    assert RayLauncher(3).runner(None).slots == 3
    with pytest.raises(UserError, match="works with hydra/sweeper=tabstep alone"):
        RayLauncher(1).launch([], 0)
    assert not issubclass(UserError, HydraException)


def sweep(tmp_path: Path, name: str, *overrides: str) -> subprocess.Popen[str]:
    environ = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [
        *(sys.executable, str(TRAIN), "-m", f"hydra.sweep.dir={name}", "data.path=data", "optimizer.lr=1e-3,1e-2"),
        *("schema.id=row_id", "schema.label=label", "data.batch_size=16", "data.checks=off", "report=none"),
        *("model.width=8", "model.depth=1", "trainer=cpu", "trainer.max_epochs=40", "trainer.precision=32-true"),
        *("callbacks=no_early_stopping", "paths.cache_dir=cache", *overrides),
    ]
    pipe = subprocess.PIPE
    environ["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ, cwd=tmp_path)


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_and_ends_as_one_here(tiny_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.train")
    (tmp_path / "data").symlink_to(tiny_data)
    here = sweep(tmp_path, "here")
    out, err = here.communicate()
    assert here.returncode == 0, out + err
    first = sweep(tmp_path, "there", "launch=ray")
    while not list(tmp_path.glob("there/*/checkpoints/last-*.ckpt")) and first.poll() is None:
        time.sleep(0.05)
    first.kill()
    first.communicate()
    second = sweep(tmp_path, "there", "launch=ray")
    out, err = second.communicate()
    assert second.returncode == 0, out + err
    assert "hydra/launcher=ray_train: chosen, for the trials run on a cluster" in out
    assert "going on in " in out
    for trial in ("0", "1"):
        ours, theirs = (load_file(tmp_path / name / trial / "model/model.safetensors") for name in ("there", "here"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    logs = [file.read_text() for file in tmp_path.glob("there/*/ray/output.log")]
    assert any("resume: going on from " in log for log in logs)
