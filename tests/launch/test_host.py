from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tabstep.launch.attempt import Attempt, run_attempt
from tabstep.launch.container import Container
from tabstep.launch.host import Host, kill, place
from tabstep.launch.outcome import Outcome
from tabstep.lines import METRIC_REGEXES, epoch_line

pytest.importorskip("psutil")

REQUEST: dict[str, Any] = {
    "TrainingJobName": "job-1",
    "HyperParameters": {"model": '"resnet"', "sagemaker_region": '"eu-west-1"', "sagemaker_submit_directory": '"x"'},
    "AlgorithmSpecification": {
        "TrainingImage": "image:1",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRIC_REGEXES.items()],
    },
    "ResourceConfig": {"InstanceType": "ml.g5.12xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "InputDataConfig": [
        {"ChannelName": "train", "InputMode": "FastFile", "DataSource": {"S3DataSource": {"S3Uri": "s3://b/train/"}}}
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://b/out/"},
    "CheckpointConfig": {"S3Uri": "s3://b/checkpoints/"},
    "Environment": {"MINE": "1"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
EPOCH = epoch_line({"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.8, "val_loss": 0.4}, rows_per_s=10, eta_s=1)


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


def run(
    monkeypatch: pytest.MonkeyPatch, scripts: dict[str, str], directory: Path, **options: Any
) -> tuple[Attempt, list[str]]:
    """Run scripts in the place of the toolkit, one for each host."""

    def start(self: Host, request: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-u", "-c", scripts[self.name]]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    monkeypatch.setattr(Host, "start", start)
    heard: list[str] = []
    given: dict[str, Any] = {"interrupt_after": None, "max_seconds": 30.0, **options}
    hosts = [host(directory, name) for name in scripts]
    return run_attempt(hosts, REQUEST, hear=lambda name, line: heard.append(f"{name}: {line}"), **given), heard


def test_the_log_of_every_host_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempt, heard = run(
        monkeypatch, {"a": "print('x'); print('y', end='')", "b": "print(b'\\xff'.decode('latin1'))"}, tmp_path
    )
    assert (attempt.end, attempt.exit_codes) == ("ended", {"a": 0, "b": 0})
    assert sorted(heard) == ["a: x", "a: y", "b: ÿ"]


def test_hosts_of_a_failed_one_are_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tabstep.launch.attempt._OTHERS_SECONDS", 0.2)
    started = time.monotonic()
    attempt, _ = run(monkeypatch, {"a": "raise SystemExit(3)", "b": "import time; time.sleep(60)"}, tmp_path)
    assert (attempt.end, attempt.exit_codes) == ("ended", {"a": 3, "b": -9})
    assert time.monotonic() - started < 20


def test_the_time_of_a_job_is_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempt, _ = run(monkeypatch, {"a": "import time; time.sleep(60)"}, tmp_path, max_seconds=0.2)
    assert (attempt.end, attempt.exit_codes) == ("out of time", {"a": -9})


CHILD = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True))
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)
print(child.pid)
for _ in range(2): print({EPOCH!r})
time.sleep(60)
"""


def test_an_interruption_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import psutil

    monkeypatch.setattr("tabstep.launch.attempt.GRACE_SECONDS", 0.5)
    attempt, heard = run(monkeypatch, {"a": CHILD}, tmp_path, interrupt_after=2)
    assert (attempt.end, attempt.exit_codes) == ("interrupted", {"a": -9})
    assert heard[-1] == "a: told"
    pid = int(heard[0].removeprefix("a: "))
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_killing_what_has_ended_is_no_fault() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    kill(process)


def test_the_table_shows_what_the_service_would(tmp_path: Path) -> None:
    from rich.console import Console

    (tmp_path / "model.tar.gz").write_bytes(bytes(2_500_000))
    outcome = Outcome(
        request=REQUEST,
        status="Failed",
        failure="data.train: is empty",
        exit_codes={"algo-1": 1},
        stages=[("Downloading", 0.5), ("Training", 61.04), ("Interrupted", 0.0)],
        log=["noise", EPOCH, f"[1,mpirank:0]{EPOCH}".replace("0.5000", "0.2500")],
        channels={"train": (tmp_path / "model.tar.gz",)},
        places={"s3://b/out/job-1/output/model.tar.gz": tmp_path / "model.tar.gz"},
    )
    assert outcome.metrics["Train Loss"] == [0.5, 0.25]
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(outcome.table())
    shown = console.export_text()
    assert "Failed (Downloading 0.5 s, Training 61.0 s, Interrupted)" in shown
    assert "s3://b/out/job-1/output/model.tar.gz" in shown
    for text in ("data.train: is empty", "1 file, 2.5 MB", "2 values, the last 0.2500", "no value", "3 of 100"):
        assert text in shown


def test_what_the_service_would_show_badly_is_remarked() -> None:
    outcome = Outcome(request=REQUEST, log=[EPOCH, "10%\r20%", "x" * 300_000])
    assert outcome.remarks() == [
        "metric 'Validation F1 Score': its regex finds nothing in the log",
        "metric 'Validation AUC ROC': its regex finds nothing in the log",
        "the log has carriage returns: the service shows all of such a line's versions in one",
        "the log has a line of more than 262,144 bytes: the service cuts it",
    ]
