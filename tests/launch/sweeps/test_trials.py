"""A sweep of jobs: moto is the service's interface, and a stand-in beside it runs or pretends to run the jobs."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.launch.conftest import BUCKET, client
from tests.launch.jobs import archive

from tabstep import entry
from tabstep.container.hyperparameters import unpack
from tabstep.errors import UserError
from tabstep.launch import prepare_job
from tabstep.launch.s3.aws_errors import CredentialsError
from tabstep.launch.source.bundle import Bundle, build_bundle
from tabstep.launch.sweeps import trials
from tabstep.sweep.ledger import read_sweep

pytest.importorskip("sagemaker")
ROLE = "arn:aws:iam::123456789012:role/job"
GRID = ("model.width=8,16", "seed=1,2")


@dataclass
class Service:
    """What the service does behind its interface, once at each look: ``run`` is given a request and gives the files."""

    run: Callable[[Mapping[str, Any]], dict[str, Path | bytes]]
    done: dict[str, list[str]] = field(default_factory=dict)  # job: its overrides
    failures: dict[str, str] = field(default_factory=dict)  # job: reason
    looks: int = 0
    interrupt_at: int | None = None

    def tick(self, _seconds: float) -> None:
        self.looks += 1
        for request in new_jobs(self.done):
            name = request["TrainingJobName"]
            self.done[name] = unpack(request["HyperParameters"])
            if name in self.failures:
                backend_job(name).training_job_status = "Failed"
                backend_job(name).failure_reason = self.failures[name]
                continue
            for address, content in self.run(request).items():
                bucket, _, key = address.removeprefix("s3://").partition("/")
                body = content.read_bytes() if isinstance(content, Path) else content
                client("s3").put_object(Bucket=bucket, Key=key, Body=body)
        if self.looks == self.interrupt_at:
            raise KeyboardInterrupt


def new_jobs(known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    sagemaker = client("sagemaker")
    for summary in sagemaker.list_training_jobs()["TrainingJobSummaries"]:
        if summary["TrainingJobName"] not in known:
            yield sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])


def backend_job(name: str) -> Any:
    from moto.sagemaker.models import sagemaker_backends

    jobs = sagemaker_backends["123456789012"]["eu-central-1"].training_jobs
    return jobs[name]


def pretend(request: Mapping[str, Any]) -> dict[str, Path | bytes]:
    """Leave what a job leaves, with a score that follows from its overrides."""
    given = dict(text.partition("=")[::2] for text in unpack(request["HyperParameters"]))
    report = {"val_auroc": float(given["model.width"]) / 100 + float(given["seed"]) / 1000, "epochs": 2}
    artifact = backend_job(request["TrainingJobName"]).model_artifacts["S3ModelArtifacts"]
    output = artifact.replace("model.tar.gz", "output.tar.gz")
    return {artifact: archive({"weights": b"w"}), output: archive({"report.json": json.dumps(report).encode()})}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build_bundle()


@pytest.fixture
def service(aws: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    found = Service(pretend)
    make = trials.job_runner

    def made(*arguments: Any) -> trials.JobRunner:
        runner = make(*arguments)
        runner.sleep = found.tick
        return runner

    monkeypatch.setattr(trials, "job_runner", made)
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: bundle)
    monkeypatch.setattr("tabstep.sweep.html_report.can_draw", lambda: False)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    with _logging_as_it_was():
        yield found


@contextmanager
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers, root.level = before
    for name in ("tabstep", "lightning"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture
def sweep(service: Service, tiny_data: Path) -> Callable[..., int]:
    def start(*overrides: str) -> int:
        fixed = [
            "-m", "hydra/launcher=sagemaker", "launch=sagemaker", "hydra.sweep.dir=s", f"launch.role={ROLE}", f"launch.bucket={BUCKET}",  # noqa: E501
            "launch.instance_type=ml.m5.xlarge", "launch.max_run=3600", f"data.path={tiny_data}", "trainer.max_epochs=2",  # noqa: E501
            "model.depth=1",
        ]  # fmt: skip
        return entry.main([*fixed, *overrides])

    return start


Sweep = Callable[..., int]


def board() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path("s/leaderboard.csv").read_text())))


def test_a_job_for_each_trial(service: Service, sweep: Sweep) -> None:
    assert sweep(*GRID) == 0
    ledger = read_sweep(Path("s"))
    stem = ledger.header.study
    assert sorted(service.done) == [f"{stem}-{number:04d}" for number in range(4)]
    assert {"model.width=16", "seed=1", "trainer.max_epochs=2"} <= set(service.done[f"{stem}-0002"])
    assert not any(text.startswith(("launch", "hydra", "data.path")) for text in service.done[f"{stem}-0002"])
    found = [(row["trial"], float(row["val_auroc"]), row["job"]) for row in board()]
    assert found == [
        ("3", pytest.approx(0.162), f"{stem}-0003"),
        ("2", pytest.approx(0.161), f"{stem}-0002"),
        ("1", pytest.approx(0.082), f"{stem}-0001"),
        ("0", pytest.approx(0.081), f"{stem}-0000"),
    ]
    assert Path("s/3/model/weights").read_bytes() == b"w"


@pytest.mark.slow
def test_no_two_trials_share_a_place_for_checkpoints(service: Service, sweep: Sweep) -> None:
    """One that was given stands above those of all trials."""
    run, places = service.run, {}

    def keeping(request: Mapping[str, Any]) -> dict[str, Path | bytes]:
        places[request["TrainingJobName"]] = request["CheckpointConfig"]["S3Uri"]
        return run(request)

    service.run = keeping
    assert sweep("seed=1,2", "model.width=8", f"launch.checkpoint_path=s3://{BUCKET}/c/") == 0
    assert places == {name: f"s3://{BUCKET}/c/{name}" for name in service.done}
    assert len(places) == 2


@pytest.mark.slow
def test_a_job_gets_what_the_option_of_the_search_sets(service: Service, sweep: Sweep) -> None:
    option = Path("conf/hparams_search/mine.yaml")
    option.parent.mkdir(parents=True)
    option.write_text(
        "# @package _global_\n"
        "hydra:\n  sweeper:\n    params:\n      model.width: choice(8,16)\n      seed: 1\n"
        "optimizer:\n  lr: 0.02\n"
    )
    assert sweep(f"--config-dir={Path('conf').absolute()}", "hparams_search=mine") == 0
    for overrides in service.done.values():
        assert "optimizer.lr=0.02" in overrides
        assert not any(text.startswith(("hparams_search", "hydra")) for text in overrides)


@pytest.mark.slow
def test_at_most_so_many_at_a_time(service: Service, sweep: Sweep) -> None:
    most = 0
    tick = service.tick

    def counting(seconds: float) -> None:
        nonlocal most
        most = max(most, len(list(new_jobs(service.done))))
        tick(seconds)

    service.tick = counting  # type: ignore[method-assign]
    assert sweep(*GRID, "hydra.launcher.max_parallel=2") == 0
    assert (most, len(service.done)) == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("look", [1, 2])
def test_after_an_interruption_nothing_is_sent_twice(
    service: Service, sweep: Sweep, capsys: pytest.CaptureFixture[str], look: int
) -> None:
    service.interrupt_at = look
    assert sweep(*GRID, "hydra.launcher.max_parallel=2") == 130
    assert "jobs run on" in capsys.readouterr().err
    sent = set(service.done)
    assert sweep(*GRID, "hydra.launcher.max_parallel=2") == 0
    assert len(service.done) == 4
    assert sent <= set(service.done)
    assert not any(name.endswith("-2") for name in service.done)
    assert [row["state"] for row in board()] == ["complete"] * 4


@pytest.mark.slow
def test_every_override_is_checked_before_anything_is_sent(
    service: Service, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("model.width=8,16", "schema.id=row_id,nope") == 2
    assert "schema.id: train has no column 'nope'" in capsys.readouterr().err
    assert sweep("model.width=8,16", "launch.instance_type=ml.m5.xlarge,ml.nope") == 2
    assert (service.done, list(new_jobs({}))) == ({}, [])


@pytest.mark.slow
def test_failed_job_is_recorded(service: Service, sweep: Sweep) -> None:
    class Failing(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            return str(name).endswith("-0001")

        def __missing__(self, name: str) -> str:
            return "AlgorithmError: training: the loss is nan"

    service.failures = Failing()
    assert sweep(*GRID) == 0
    failed = [row for row in board() if row["state"] == "failed"]
    assert [row["trial"] for row in failed] == ["1"]
    assert failed[0]["error"].endswith("AlgorithmError: training: the loss is nan")


@pytest.mark.slow
def test_job_without_capacity_is_sent_again(service: Service, sweep: Sweep) -> None:
    class Failing(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            return str(name).endswith("-0001")

        def __missing__(self, name: str) -> str:
            return "CapacityError: Unable to provision requested ML compute capacity"

    service.failures = Failing()
    assert sweep(*GRID) == 0
    assert [name.rpartition("-000")[2] for name in sorted(service.done)] == ["0", "1", "1-2", "2", "3"]
    assert [row["state"] for row in board()] == ["complete"] * 4


@pytest.mark.slow
def test_quota_is_waited_for(service: Service, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    send, clock, refused = trials.send, [0.0], []

    def limited(job: Any, session: Any) -> None:
        if len(refused) < 3:
            refused.append(job.spec.job_name)
            answer = {"Error": {"Code": "ResourceLimitExceeded", "Message": "no more"}}
            raise UserError("job: no more") from ClientError(answer, "CreateTrainingJob")
        send(job, session)

    def tick(seconds: float) -> None:
        clock[0] += seconds
        Service.tick(service, seconds)

    monkeypatch.setattr(trials, "send", limited)
    monkeypatch.setattr(trials.JobRunner, "clock", staticmethod(lambda: clock[0]), raising=False)
    make = trials.job_runner

    def made(*arguments: Any) -> trials.JobRunner:
        runner = make(*arguments)
        runner.clock, runner.sleep = lambda: clock[0], tick
        return runner

    monkeypatch.setattr(trials, "job_runner", made)
    assert sweep("model.width=8", "seed=1,2") == 0
    assert len(refused) == 3
    assert clock[0] >= 60
    assert [row["state"] for row in board()] == ["complete"] * 2


@pytest.mark.parametrize("step", [pytest.param("describe", marks=pytest.mark.slow), "download"])
def test_expired_token_leaves_the_jobs_and_their_trials_as_they_are(
    service: Service,
    sweep: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
) -> None:
    real = getattr(trials, step)

    def expired(*arguments: Any) -> Any:
        if service.looks:
            raise CredentialsError("job: AWS refuses DescribeTrainingJob: expired")
        return real(*arguments)

    monkeypatch.setattr(trials, step, expired)
    assert sweep("model.width=8", "seed=1,2") == 75
    said = capsys.readouterr().err
    assert "jobs run on" in said
    assert said.splitlines()[-1] == "job: AWS refuses DescribeTrainingJob: expired"
    assert {trial.state for trial in read_sweep(Path("s")).trials} == {"running"}
    monkeypatch.setattr(trials, step, real)
    assert sweep("model.width=8", "seed=1,2") == 0
    assert not any(name.endswith("-2") for name in service.done)


@pytest.mark.slow
def test_refusal_for_another_reason_ends_the_sweep(
    service: Service, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(job: Any, session: Any) -> None:
        raise UserError("job: AWS refuses CreateTrainingJob: access denied")

    monkeypatch.setattr(trials, "send", denied)
    assert sweep(*GRID) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "job: AWS refuses CreateTrainingJob: access denied"
    assert {trial.state for trial in read_sweep(Path("s")).trials} == {"running"}


@pytest.mark.slow
def test_budget_of_the_sweep(service: Service, sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prices.yaml").write_text("eu-central-1:\n  ml.m5.xlarge: 0.3\n")
    assert sweep(*GRID, "hydra.launcher.max_usd=9") == 2
    assert "hydra.launcher.max_usd: 9 cannot be kept: 1.00 instance hours of ml.m5.xlarge" in capsys.readouterr().err
    prices = "launch.prices=prices.yaml"
    assert sweep(*GRID, prices, "hydra.launcher.max_usd=0.01") == 2
    assert "hydra.launcher.max_usd: $0.00 are spent or bound, and the next job could cost $" in capsys.readouterr().err
    assert service.done == {}
    assert sweep(*GRID, prices, "hydra.launcher.max_usd=0.4") == 0  # one hour of one job at a time
    assert len(service.done) == 4


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("hydra.launcher.max_parallel=0", "hydra.launcher.max_parallel: expected a whole number >= 1, got 0"),
        ("hydra.launcher.max_usd=0", "hydra.launcher.max_usd: expected dollars > 0, got 0"),
    ],
)
def test_mistakes(sweep: Sweep, capsys: pytest.CaptureFixture[str], override: str, line: str) -> None:
    assert sweep(*GRID, override) == 2
    assert capsys.readouterr().err.splitlines() == [line]


@pytest.mark.slow
def test_jobs_choose_their_launcher(service: Service, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["-m", "launch=sagemaker", "hydra.sweep.dir=s", f"launch.role={ROLE}", f"launch.bucket={BUCKET}"]
    argv += ["launch.instance_type=ml.m5.xlarge", f"data.path={tiny_data}", "model.width=8,16", "seed=3"]
    assert entry.main(argv) == 0
    assert "hydra/launcher=sagemaker: chosen, for the trials are jobs" in capsys.readouterr().out
    assert len(service.done) == 2


def rehearsed(directory: Path) -> Callable[[Mapping[str, Any]], dict[str, Path | bytes]]:
    """Return what runs a job in full with the real toolkit, its source and its tables taken from moto."""
    from tabstep.emulator.service import run_request
    from tabstep.launch.s3.download import fetch_channels

    def run(request: Mapping[str, Any]) -> dict[str, Path | bytes]:
        place = directory / request["TrainingJobName"]
        place.mkdir(parents=True)
        bucket, _, key = json.loads(request["HyperParameters"]["sagemaker_submit_directory"])[5:].partition("/")
        source = client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        request = json.loads(json.dumps(request, default=str))  # a description has times, a request has none
        channels = fetch_channels(request, place / "fetched", without={})
        outcome = run_request(request, source, channels, place)
        assert outcome.status == "Completed", outcome.failure
        artifact = backend_job(request["TrainingJobName"]).model_artifacts["S3ModelArtifacts"]
        return {
            f"{artifact.rpartition('/')[0]}/{address.rpartition('/')[2]}": file
            for address, file in outcome.places.items()
        }

    return run


@pytest.mark.slow
def test_four_rehearsed_jobs_bring_their_objectives(service: Service, sweep: Sweep, tmp_path: Path) -> None:
    pytest.importorskip("sagemaker_training")
    service.run = rehearsed(tmp_path / "service")
    assert sweep(*GRID, "trainer=cpu", "data.checks=off") == 0
    ledger = read_sweep(Path("s"))
    assert [trial.state for trial in ledger.trials] == ["complete"] * 4
    for trial in ledger.trials:
        report = json.loads((ledger.path(trial) / "report.json").read_text())
        assert list(trial.values) == [report["val_auroc"]]
        assert (ledger.path(trial) / "model" / "model.safetensors").is_file()
        assert (ledger.path(trial) / "predictions" / "val.parquet").is_file()
    assert len({tuple(trial.values) for trial in ledger.trials}) > 1
