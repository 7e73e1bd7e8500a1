from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tabstep.config.settings import RaySettings
from tabstep.entry import main
from tabstep.errors import UserError
from tabstep.launch.ray import resources
from tabstep.launch.ray.resources import connection, needed, scaling, shortage, storage

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        (RaySettings(), {"num_workers": 1, "use_gpu": False, "resources_per_worker": {"CPU": 1}}),
        (
            RaySettings(workers=4, cpus_per_worker=3, gpus_per_worker=1),
            {"num_workers": 4, "use_gpu": True, "resources_per_worker": {"CPU": 3, "GPU": 1}},
        ),
    ],
)
def test_workers_become_what_ray_scales_by(launch: RaySettings, expected: dict[str, Any]) -> None:
    assert scaling(launch) == expected


@needs_ray
def test_ray_counts_the_same_resources() -> None:
    from ray.train import ScalingConfig

    launch = RaySettings(workers=4, cpus_per_worker=3, gpus_per_worker=1)
    assert ScalingConfig(**scaling(launch)).total_resources == needed(launch) == {"CPU": 12, "GPU": 4}


def test_a_cluster_of_our_own_is_as_large_as_is_needed_and_reached_from_here_alone() -> None:
    arguments = connection(RaySettings(workers=2, cpus_per_worker=3), ["/source/tabstep"], runs=2)
    assert (arguments["address"], arguments["num_cpus"]) == ("local", 12)
    assert arguments["_node_ip_address"] == "127.0.0.1"
    assert arguments["runtime_env"] == {"py_modules": ["/source/tabstep"]}


def test_a_cluster_that_is_there_is_taken_as_it_is() -> None:
    given = {"env_vars": {"A": "1"}, "py_modules": ["/mine"]}
    arguments = connection(RaySettings(address="10.0.0.1:6379", runtime_env=given), ["/source/tabstep"])
    assert not {"num_cpus", "object_store_memory", "_node_ip_address"} & arguments.keys()
    assert arguments["address"] == "10.0.0.1:6379"
    assert arguments["runtime_env"] == {"env_vars": {"A": "1"}, "py_modules": ["/mine", "/source/tabstep"]}
    assert given["py_modules"] == ["/mine"]


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"CPU": 4.0, "GPU": 4.0}, None),
        ({"CPU": 4.0}, "4 GPU of which it has 0"),
        ({"CPU": 1.5, "GPU": 4.0}, "4 CPU of which it has 1.5"),
    ],
)
def test_what_a_cluster_lacks(has: dict[str, float], expected: str | None) -> None:
    assert shortage(RaySettings(workers=4, gpus_per_worker=1), has) == expected


def test_notes_lie_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage("out") == tmp_path / "out" / "ray"


def test_without_ray_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'^launch=ray: ray cannot be imported: pip install "tabstep\[ray\]"$'):
        resources.require()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.devices=2"], "launch.workers: says how many ranks there are, 1, wherever they run: "),
        (["trainer.num_nodes=2"], "launch.workers: says how many ranks there are, 1, wherever they run: "),
        (["data.folds=3", "launch.workers=2"], "data.folds: one process trains fold after fold: set launch.workers=1"),
        (["+launch.runtime_env.py_modules=mine"], "launch.runtime_env.py_modules: expected a list"),
        (["trainer=gpu"], "launch.gpus_per_worker: is 0, and trainer.accelerator is gpu: set it to 1"),
        (["trainer=cpu", "launch.gpus_per_worker=1"], "launch.gpus_per_worker: is 1, and trainer.accelerator is cpu"),
        (["launch.gpus_per_worker=2"], "launch.gpus_per_worker: expected "),
        (["launch.workers=0"], "launch.workers: expected a whole number >= 1, got 0"),
        (["launch.worker=2"], "launch.worker: no such key (got 2): did you mean 'launch.workers'?"),
        (["launch.spot=true"], "launch.spot: "),
        (["data.path=nowhere"], "data.path: no such directory: nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_a_cluster_is_asked(
    overrides: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["launch=ray", *overrides, "paths.output_dir=out"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert list(tmp_path.iterdir()) == []
