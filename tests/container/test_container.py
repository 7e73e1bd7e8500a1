from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.config.command_line import Command
from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.container import container
from tabstep.container.container import MAX_REASON, Container, reason
from tabstep.container.hyperparameters import pack, without_local_places
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, RetryError, StoppedError, UserError

ROOT = Path(__file__).resolve().parents[2]


def tree(base: Path, hyperparameters: dict[str, str], channels: tuple[str, ...] = (), hosts: int = 1) -> Container:
    """Write what the service writes before a container starts."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    files: dict[str, Any] = {
        "hyperparameters.json": hyperparameters,
        "inputdataconfig.json": {name: {"TrainingInputMode": "File"} for name in channels},
        "resourceconfig.json": {"current_host": "algo-2", "hosts": [f"algo-{i + 1}" for i in range(hosts)]},
    }
    for name, content in files.items():
        (config / name).write_text(json.dumps(content))
    return Container(base)


@pytest.fixture
def in_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Container:
    """Make this process one of a job without hyperparameters."""
    found = tree(tmp_path / "ml", {})
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(found.base))
    return found


def compose(job: Container, bundle: Path) -> Any:
    command = Command.split(job.arguments(bundle))
    return parse(composed(command.overrides, [config_dir()]))


def test_a_job_composes_what_was_launched_in_its_own_places(tmp_path: Path) -> None:
    job = tree(tmp_path / "it's = a dir", {"model": '"resnet"', "optimizer.lr": "0.0003", "sagemaker_region": '"x"'})
    settings = compose(job, tmp_path)
    assert (settings.model.name, settings.optimizer.lr, settings.resume, settings.launch.name) == (
        "resnet",
        0.0003,
        "auto",
        "local",
    )
    assert settings.paths.checkpoints == job.base / "checkpoints"
    assert settings.paths.model == job.base / "model"
    assert Path(settings.paths.output_dir) == job.base / "output" / "data"
    assert settings.data.path is settings.data.train is None
    assert settings.callbacks.progress == "lines"


def test_channels_are_the_splits_whatever_an_option_says(tmp_path: Path) -> None:
    hyperparameters = {"data.path": "tables", "data.test": "elsewhere", "paths": "default", "launch": "sagemaker"}
    job = tree(tmp_path, hyperparameters, ("train", "val"))
    settings = compose(job, tmp_path)
    data = job.base / "input" / "data"
    assert (settings.data.train, settings.data.val) == (str(data / "train"), str(data / "val"))
    assert settings.data.path is settings.data.test is None


def test_the_source_of_a_job_without_a_network_is_no_split(tmp_path: Path) -> None:
    job = tree(tmp_path / "job", {}, ("code", "train"))
    assert compose(job, tmp_path).data.train == str(job.base / "input" / "data" / "train")
    builtin = tree(tmp_path / "builtin", {}, ("code",))
    assert compose(builtin, tmp_path).data.train is None


def test_wrong_channels_are_named(tmp_path: Path) -> None:
    job = tree(tmp_path, {}, ("training", "vall"))
    with pytest.raises(ProblemsError) as caught:
        job.arguments(tmp_path)
    assert caught.value.problems == (
        "channel 'training': is no split: did you mean 'train'?",
        "channel 'vall': is no split: did you mean 'val'?",
        "channel 'train': is missing; the job has training, vall",
    )


@pytest.mark.parametrize(
    ("hosts", "kind", "expected"),
    [(2, "ShardedByS3Key", "true"), (2, "FullyReplicated", "false"), (1, "ShardedByS3Key", "false")],
)
def test_hosts_with_parts_of_train_pass_them_on(tmp_path: Path, hosts: int, kind: str, expected: str) -> None:
    job = tree(tmp_path, {"data.sharded": "true"}, ("train", "val"), hosts=hosts)
    file = tmp_path / "input" / "config" / "inputdataconfig.json"
    file.write_text(json.dumps({"train": {"S3DistributionType": kind}, "val": {}}))
    assert [text for text in job.arguments(tmp_path) if text.startswith("data.sharded=")] == [
        f"data.sharded={expected}"
    ]


def test_hosts_with_parts_of_val_are_refused(tmp_path: Path) -> None:
    job = tree(tmp_path, {}, ("train", "val"), hosts=2)
    file = tmp_path / "input" / "config" / "inputdataconfig.json"
    file.write_text(json.dumps({"train": {}, "val": {"S3DistributionType": "ShardedByS3Key"}}))
    with pytest.raises(UserError, match=r"channel 'val': each host has its own part of it"):
        job.arguments(tmp_path)


@pytest.mark.parametrize(
    "given_overrides",
    [
        ["model=resnet", "optimizer=sgd", "optimizer.lr=3e-4"],
        ["experiment=example", "seed=12"],
        ["experiment=imbalanced", "schema.label=[a,'b, c']", "schema.drop=['x y']", "tags=['3', \"it's\"]"],
        ["experiment=large_batch", "data.encoder={max_categories: 5}", "trainer.max_time=1.5", "trainer.max_epochs=3"],
        ["debug=overfit", "loss=focal", "scheduler=one_cycle", "callbacks=ema", "logger=many", "trainer=ddp_sim"],
        ["trainer.max_epochs=1", "trainer={max_epochs: 2}", "trainer.max_epochs=3", "schema.id=null"],
    ],
)
def test_a_job_composes_what_runs_here_but_for_places(given_overrides: list[str], tmp_path: Path) -> None:
    here = composed(given_overrides, [config_dir()])
    sent = {
        name: json.dumps(value)
        for name, value in pack(without_local_places(["launch=sagemaker", *given_overrides])).items()
    }
    command = Command.split(tree(tmp_path, sent, ("train", "val", "test")).arguments(tmp_path))
    there = composed(command.overrides, [config_dir()])
    for key in ("path", "train", "val", "test"):
        del here["data"][key], there["data"][key]
    for config in (here, there):
        del config["paths"], config["launch"], config["callbacks"]["progress"]
    assert there == here


def test_hosts_do_not_share_an_output_directory(tmp_path: Path) -> None:
    assert tree(tmp_path / "a", {}, hosts=1).output_data == tmp_path / "a/output/data"
    assert tree(tmp_path / "b", {}, hosts=2).output_data == tmp_path / "b/output/data/algo-2"


@pytest.mark.parametrize(
    ("given_value", "expected"), [("never", "auto"), ("must", "must"), ("old/last-00000001.ckpt", "auto")]
)
def test_a_job_resumes_from_its_own_checkpoints(tmp_path: Path, given_value: str, expected: str) -> None:
    assert compose(tree(tmp_path, {"resume": json.dumps(given_value)}), tmp_path).resume == expected


def test_jobs_of_a_tuner_have_checkpoints_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tuner gives all of its jobs one place on S3, which is copied into each of them."""
    tuned = {"_tuning_objective_metric": '"Validation AUC ROC"', "optimizer.lr": "0.001"}
    monkeypatch.delenv("TRAINING_JOB_NAME", raising=False)
    first = tree(tmp_path / "a", tuned).checkpoints
    assert first.parent == tmp_path / "a" / "checkpoints"
    assert first.name == tree(tmp_path / "b", tuned).checkpoints.name
    assert first.name != tree(tmp_path / "c", {**tuned, "optimizer.lr": "0.002"}).checkpoints.name
    monkeypatch.setenv("TRAINING_JOB_NAME", "tuner-001-ab")
    job = tree(tmp_path / "d", tuned)
    assert compose(job, tmp_path).paths.checkpoint_dir == str(tmp_path / "d" / "checkpoints" / "tuner-001-ab")
    assert tree(tmp_path / "e", {"optimizer.lr": "0.001"}).checkpoints == tmp_path / "e" / "checkpoints"


def test_options_of_a_directory_of_their_own_are_found(tmp_path: Path) -> None:
    (tmp_path / "conf_extra").mkdir()
    assert tree(tmp_path / "ml", {}).arguments(tmp_path)[0] == f"--config-dir={tmp_path / 'conf_extra'}"


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "expected an object, got list")])
def test_a_damaged_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    job = tree(tmp_path, {})
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text(text)
    with pytest.raises(UserError, match=rf"hyperparameters\.json: {message}"):
        job.arguments(tmp_path)


def test_any_other_machine_is_no_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert container.current() is None
    ran: list[list[str]] = []
    container.command(lambda argv: ran.append(list(argv)), ["a=1"])()
    monkeypatch.setattr(sys, "argv", ["train.py", "b=2"])
    container.command(lambda argv: ran.append(list(argv)), None)()
    assert ran == [["a=1"], ["b=2"]]


def test_arguments_of_the_toolkit_are_ignored(in_container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--model", "resnet"])
    ran: list[list[str]] = []
    container.command(lambda argv: ran.append(list(argv)), None)()
    assert "launch=local" in ran[0]
    assert "--model" not in ran[0]


def fail(error: BaseException) -> None:
    def command() -> None:
        raise error

    container.reporting(command)()


def test_the_first_failure_is_the_one_that_is_kept(in_container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    file = in_container.base / "output" / "failure"
    monkeypatch.setenv("WORLD_SIZE", "4")
    for rank, text in (("2", "data.train: no such file"), ("0", "connection reset by peer")):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(RetryError):
            fail(RetryError(text))
    assert file.read_text() == "rank 2 of 4: data.train: no such file"
    assert os.listdir(file.parent) == ["failure"]


def test_a_stop_that_saved_the_state_is_no_failure(in_container: Container) -> None:
    with pytest.raises(StoppedError):
        fail(StoppedError("stopped by SIGTERM", 15))
    assert not (in_container.base / "output").exists()


def test_a_fault_says_what_and_where() -> None:
    with pytest.raises(IndexError) as caught:
        [][1]
    assert reason(caught.value).startswith("IndexError: list index out of range (test_container.py:")
    assert "has no package 'hydra'" in reason(ModuleNotFoundError("No module named 'hydra'", name="hydra"))
    assert reason(type("OutOfMemoryError", (RuntimeError,), {})("CUDA")).startswith(
        "the GPU's memory is full: lower data.batch_size"
    )


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 200))
def test_a_reason_fits(text: str, times: int) -> None:
    found = reason(UserError(text * times))
    assert len(found.encode()) <= MAX_REASON
    assert found == text * times or found.endswith(" … (the log has all of it)")


def test_a_long_reason_ends_with_a_whole_line() -> None:
    lines = [f"key{i}: no such key" for i in range(200)]
    *kept, last = reason(ProblemsError(lines)).splitlines()
    assert kept == lines[: len(kept)]
    assert last == f"{lines[len(kept)]} … (the log has all of it)"


def test_the_script_of_a_job_writes_its_failure(tmp_path: Path) -> None:
    tree(tmp_path / "ml", {"trainer.max_epoch": "3"})
    environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(tmp_path / "ml")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--trainer.max_epoch", "3"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    expected = "trainer.max_epoch: no such key (got 3): did you mean 'trainer.max_epochs'?"
    assert (tmp_path / "ml" / "output" / "failure").read_text() == expected
    assert done.stderr.strip() == expected


def test_launching_and_starting_a_job_import_neither_torch_nor_an_sdk() -> None:
    code = (
        "import sys; import tabstep.entry, tabstep.container.container, tabstep.container.hyperparameters\n"
        "heavy = {'torch', 'lightning', 'pyarrow', 'numpy', 'sagemaker', 'boto3', 'hydra', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
