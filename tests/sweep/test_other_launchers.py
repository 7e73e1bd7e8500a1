"""Launchers that others made for Hydra: a sweep hands them its trials and comes out as it does without them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tabstep.sweep.ledger import Trial, read_sweep

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
SMALL = ("trainer=cpu", "trainer.max_epochs=2", "trainer.log_interval=0", "model.width=16", "model.depth=1")
SPACE = ("optimizer.lr=1e-3,1e-2", "callbacks.fail_above_grad_norm=null,1e-9")


def sweep(data: Path, directory: Path, *overrides: str) -> list[Trial]:
    """Run four trials, of which the second and the fourth fail, and return them."""
    done = subprocess.run(
        [
            *(sys.executable, str(TRAIN), "-m", f"data.path={data}", "schema.label=label", *SMALL, *SPACE),
            *(f"paths.cache_dir={directory}/cache", f"hydra.sweep.dir={directory}/s", *overrides),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return read_sweep(directory / "s").trials


@pytest.fixture(scope="module")
def expected(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    return sweep(tiny_data, tmp_path_factory.mktemp("basic"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "overrides"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
        ("hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]),
    ],
)
def test_their_trials_are_those_of_this_process(
    expected: list[Trial], tiny_data: Path, tmp_path: Path, package: str, overrides: list[str]
) -> None:
    if find_spec(f"hydra_plugins.{package}") is None:
        pytest.skip(f"{package} is not installed")
    found = sweep(tiny_data, tmp_path, *overrides)
    assert [trial.state for trial in found] == ["complete", "failed", "complete", "failed"]
    assert [trial.error for trial in found] == [trial.error for trial in expected]
    assert [trial.values for trial in found] == [trial.values for trial in expected]
    assert [trial.curve for trial in found] == [trial.curve for trial in expected]
    assert len({trial.seconds for trial in found if trial.state == "complete"}) == 2, "the time of the batch for each"
