from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.launch.jobs import REQUEST

from tabstep.container.container import Container
from tabstep.emulator.host import Host, kill, place

pytest.importorskip("psutil")


def host(directory: Path, name: str = "algo-1", gpus: int = 0) -> Host:
    return Host(name=name, directory=directory / name, gpus=gpus)


def test_the_tree_is_what_a_container_finds(tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    table.write_bytes(b"PAR1")
    found = host(tmp_path)
    found.prepare(REQUEST, {"train": {"a/b.parquet": table}}, ["algo-1", "algo-2"])
    config = found.base / "input" / "config"
    resources = json.loads((config / "resourceconfig.json").read_text())
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1", "algo-2"])
    assert resources["current_instance_type"] == resources["instance_groups"][0]["instance_type"] == "ml.g5.12xlarge"
    inputs = json.loads((config / "inputdataconfig.json").read_text())
    assert inputs["train"] == {
        "TrainingInputMode": "FastFile",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    assert json.loads((config / "hyperparameters.json").read_text()) == REQUEST["HyperParameters"]
    assert (found.base / "input/data/train/a/b.parquet").read_bytes() == b"PAR1"
    job = Container(found.base)
    assert job.channels == {"train": found.base / "input/data/train"}
    assert job.arguments(tmp_path)[0] == "model=resnet"


def test_of_an_earlier_container_only_checkpoints_stay(tmp_path: Path) -> None:
    found = host(tmp_path)
    found.prepare(REQUEST, {}, ["algo-1"])
    for name in ("checkpoints/last.ckpt", "model/x", "output/failure", "code/train.py", "tmp/x"):
        (found.base / name).parent.mkdir(exist_ok=True)
        (found.base / name).write_text("x")
    found.prepare(REQUEST, {}, ["algo-1"])
    files = [path for path in found.base.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert files == [found.base / "checkpoints" / "last.ckpt"]


def test_the_environment_is_not_that_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SM_MODEL_DIR", "SAGEMAKER_ROLE", "PYTHONPATH", "TORCHELASTIC_RUN_ID", "CA_REPOSITORY_ARN"):
        monkeypatch.setenv(name, "outside")
    environment = host(tmp_path)._environment(REQUEST)
    assert "outside" not in environment.values()
    assert environment["MINE"] == "1"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert environment["SAGEMAKER_BASE_DIR"] == str(tmp_path / "algo-1" / "ml")


def test_devices_are_counted_as_the_toolkit_does(tmp_path: Path) -> None:
    found = host(tmp_path, gpus=3)
    found.prepare(REQUEST, {}, ["algo-1"])
    listed = subprocess.run(
        ["nvidia-smi", "--list-gpus"], env=found._environment(REQUEST), capture_output=True, text=True, check=True
    )
    assert sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) == 3


def test_a_file_that_cannot_be_linked_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("another device")

    (tmp_path / "a").write_text("x")
    monkeypatch.setattr(os, "link", refuse)
    place(tmp_path / "a", tmp_path / "below" / "b")
    assert (tmp_path / "below" / "b").read_text() == "x"


def test_killing_what_has_ended_is_no_fault() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    kill(process)
    assert process.returncode == 0
