"""A sweep as one tuning job: moto is the service's interface, a stand-in beside it does what its tuner does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.launch.conftest import BUCKET, client
from tests.launch.jobs import archive
from tests.launch.sweeps.test_trials import _logging_as_it_was

from tabstep import entry
from tabstep.container.hyperparameters import unpack
from tabstep.launch import dispatch, prepare_job
from tabstep.launch.follow import follow_tuner
from tabstep.launch.request import sdk
from tabstep.launch.source.bundle import Bundle, build_bundle
from tabstep.launch.sweeps import tuning
from tabstep.log_lines import METRIC_NAMES

pytest.importorskip("sagemaker")
ROLE = "arn:aws:iam::123456789012:role/job"
SEARCH = (
    "hparams_search=optuna", "hydra.sweeper.n_trials=3", "optimizer.lr=tag(log, interval(1e-4,1e-2))",
    "model.width=8,16", "model.depth=1",
)  # fmt: skip
VALUES = {"optimizer.lr": "0.003", "model.width": '"16"', "model.dropout": "0.25", "optimizer.weight_decay": "1.0E-4"}


def job_request(tuner: Mapping[str, Any], name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the request of one of a tuner's jobs, as the service makes it: all of them have one checkpoint path."""
    definition = tuner["TrainingJobDefinition"]
    metric = tuner["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
    static = definition["StaticHyperParameters"]
    own = {"StaticHyperParameters", "HyperParameterTuningResourceConfig"}
    return {
        **{key: value for key, value in definition.items() if key not in own},
        "TrainingJobName": name,
        "ResourceConfig": definition["HyperParameterTuningResourceConfig"],
        "HyperParameters": {**static, **values, "_tuning_objective_metric": json.dumps(metric)},
    }


@dataclass
class Tuner:
    """What the service does between two looks: starts a job, lets it end as the best, and ends."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    values: Mapping[str, str] = field(default_factory=lambda: VALUES)
    looks: int = 0
    ends_as: str = "Completed"
    interrupt_at: int | None = None
    has_best: bool = True

    def begin(self, job: Any, **arguments: Any) -> None:
        job.hyper_parameter_tuning_job_status = "InProgress"
        job.best_training_job = None
        job.training_job_status_counters = dict.fromkeys(job.training_job_status_counters, 0)

    def tick(self, _seconds: float) -> None:
        self.looks += 1
        if self.looks == self.interrupt_at:
            self.looks, self.interrupt_at = self.looks - 1, None
            raise KeyboardInterrupt
        [job] = _backend().hyper_parameter_tuning_jobs.values()
        if self.looks == 1:
            job.training_job_status_counters["InProgress"] = 2
        elif self.looks == 2:
            job.training_job_status_counters |= {"InProgress": 0, "Completed": 1, "Stopped": 1, "NonRetryableError": 1}
            if self.has_best:
                job.best_training_job = self._train(f"{job.hyper_parameter_tuning_job_name}-001-ab12cd34")
        else:
            job.hyper_parameter_tuning_job_status = self.ends_as

    def _train(self, name: str) -> dict[str, Any]:
        client("sagemaker").create_training_job(**job_request(self.requests[0], name, self.values))
        artifact = _backend().training_jobs[name].model_artifacts["S3ModelArtifacts"]
        report = {"val_auroc": 0.9123456789, "epochs": 2}
        for address, files in (
            (artifact, {"weights": b"w"}),
            (artifact.replace("model.tar.gz", "output.tar.gz"), {"report.json": json.dumps(report).encode()}),
        ):
            bucket, _, key = address.removeprefix("s3://").partition("/")
            client("s3").put_object(Bucket=bucket, Key=key, Body=archive(files))
        metric = {"MetricName": METRIC_NAMES["val_auroc"], "Type": "Maximize", "Value": 0.9123457}
        return {
            "TrainingJobName": name,
            "TunedHyperParameters": dict(self.values),
            "FinalHyperParameterTuningJobObjectiveMetric": metric,
        }


def _backend() -> Any:
    from moto.sagemaker.models import sagemaker_backends

    return sagemaker_backends["123456789012"]["eu-central-1"]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build_bundle()


@pytest.fixture
def tuner(aws: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Tuner]:
    from moto.sagemaker.models import HyperParameterTuningJob

    found = Tuner()
    begin = HyperParameterTuningJob.__init__

    def began(job: Any, **arguments: Any) -> None:
        begin(job, **arguments)
        found.begin(job)

    make = sdk.boto_session

    def recorded(region: str) -> Any:
        session = make(region)
        name = "before-send.sagemaker.CreateHyperParameterTuningJob"
        session.events.register(name, lambda request, **_: found.requests.append(json.loads(request.body)))
        return session

    monkeypatch.setattr(HyperParameterTuningJob, "__init__", began)
    monkeypatch.setattr(sdk, "boto_session", recorded)
    for module, name in ((tuning, "follow_tuner"), (dispatch, "follow_tuner")):
        monkeypatch.setattr(module, name, partial(follow_tuner.follow_tuner, sleep=found.tick))
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: bundle)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    with _logging_as_it_was():
        yield found


Sweep = Callable[..., int]


@pytest.fixture
def sweep(tuner: Tuner, tiny_data: Path) -> Sweep:
    def start(*overrides: str) -> int:
        fixed = [
            "-m", "launch=sagemaker", "launch.tuner=true", "hydra.sweep.dir=s", f"launch.role={ROLE}",
            f"launch.bucket={BUCKET}", "launch.instance_type=ml.m5.xlarge", "launch.max_run=3600",
            f"data.path={tiny_data}", "trainer.max_epochs=2",
        ]  # fmt: skip
        return entry.main([*fixed, *overrides])

    return start


def test_dry_run_prints_the_request_alone_and_sends_nothing(
    tuner: Tuner, sweep: Sweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert sweep(*SEARCH, "launch=dry_run") == 0
    captured = capsys.readouterr()
    request = json.loads(captured.out)
    assert request["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 3
    assert "at most 3 jobs, together 3.00 instance hours of ml.m5.xlarge" in captured.err
    assert "-m" not in request["TrainingJobDefinition"]["StaticHyperParameters"]
    assert unpack(request["TrainingJobDefinition"]["StaticHyperParameters"]) == [
        "model.depth=1",
        "trainer.max_epochs=2",
    ]
    assert (tuner.requests, list(Path().iterdir())) == ([], [])


def test_from_the_command_to_the_best_jobs_model(
    tuner: Tuner, sweep: Sweep, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*SEARCH, "launch=dry_run", "launch.job_name=t1") == 0
    printed = json.loads(capsys.readouterr().out)
    assert sweep(*SEARCH, "launch.job_name=t1", "hydra/launcher=sagemaker", "hydra.launcher.max_parallel=2") == 0
    [sent] = tuner.requests
    assert sent["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxParallelTrainingJobs"] == 2
    printed["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxParallelTrainingJobs"] = 2
    assert sent == printed
    keys = {f"s3://{BUCKET}/{item['Key']}" for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    definition = sent["TrainingJobDefinition"]
    assert json.loads(definition["StaticHyperParameters"]["sagemaker_submit_directory"]) in keys
    for channel in definition["InputDataConfig"]:
        assert any(key.startswith(channel["DataSource"]["S3DataSource"]["S3Uri"]) for key in keys)
    said = [line for line in capsys.readouterr().out.splitlines() if "[HYDRA]" not in line]  # moto's log
    assert "of 3 jobs: none has begun" in said[0]
    assert "of 3 jobs: 2 running" in said[1]
    best = "best Validation AUC ROC 0.9123 (t1-001-ab12cd34)"
    assert said[2].endswith(f"of 3 jobs: 1 completed, 1 stopped, 1 failed; {best}")
    assert "best job:    t1-001-ab12cd34, Validation AUC ROC 0.9123457" in said
    again = next(line for line in said if line.startswith("again:"))
    assert "python train.py " in again
    assert "model.width=16" in again
    assert "optimizer.weight_decay=1.0E-4" in again
    assert not any(text in again for text in ("hparams_search", "launch.tuner", "launch.job_name", "hydra."))
    assert Path("s/model/weights").read_bytes() == b"w"
    assert json.loads(Path("s/report.json").read_text())["val_auroc"] == 0.9123456789
    assert Path("s/best.sh").read_text() == again.removeprefix("again:").strip() + "\n"
    assert "width: 16" in Path("s/best.yaml").read_text()


def test_interrupted_it_runs_on_and_is_followed_again(
    tuner: Tuner, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    tuner.interrupt_at = 2
    assert sweep(*SEARCH, "launch.job_name=t1") == 130
    hint = capsys.readouterr().err
    assert "tuner t1 runs on" in hint
    assert "stop-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name t1 --region eu-central-1" in hint
    follow = next(line for line in hint.splitlines() if "follow it:" in line).partition("train.py ")[2].split()
    assert entry.main([*follow, "paths.output_dir=again"]) == 0
    said = capsys.readouterr().out
    assert "again:       python train.py model.depth=1 model.dropout=0.25 model.width=16" in said
    assert Path("again/model/weights").read_bytes() == b"w"
    assert len(tuner.requests) == 1


def test_without_waiting_it_says_how_to_come_back(
    tuner: Tuner, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*SEARCH, "launch.wait=false", "launch.job_name=t1") == 0
    assert "launch=sagemaker launch.tuner=true launch.attach=t1" in capsys.readouterr().err
    assert tuner.looks == 0


def test_a_tuner_without_a_result_is_a_failure(tuner: Tuner, sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    tuner.has_best, tuner.ends_as = False, "Failed"
    assert sweep(*SEARCH, "launch.job_name=t1") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("tuner t1: Failed: none of its jobs came to a result")


def test_a_stopped_tuner_still_has_a_best_job(tuner: Tuner, sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    tuner.ends_as = "Stopped"
    assert sweep(*SEARCH, "launch.download=false") == 0
    assert "Stopped: of 3 jobs" in capsys.readouterr().out
    assert not Path("s/model").exists()


@pytest.mark.slow
def test_budget_counts_all_jobs(tuner: Tuner, sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prices.yaml").write_text("eu-central-1:\n  ml.m5.xlarge: 0.3\n")
    assert sweep(*SEARCH, "launch.max_usd=0.5") == 2
    assert "launch.max_usd: 0.5 cannot be kept: 1.00 instance hours" in capsys.readouterr().err
    assert sweep(*SEARCH, "launch.prices=prices.yaml", "launch.max_usd=0.5") == 2
    line = "launch.max_usd: 3 jobs could cost $0.90 (3 instance hours), more than $0.5: set launch.max_run=2000"
    assert line in capsys.readouterr().err
    assert sweep(*SEARCH, "launch.prices=prices.yaml", "launch.max_usd=0.5", "launch.keep_alive=3600") == 2
    assert line in capsys.readouterr().err, "a tuner keeps no warm pool"
    budget = ["hydra/launcher=sagemaker", "hydra.launcher.max_usd=0.8", "launch.prices=prices.yaml"]
    assert sweep(*SEARCH, *budget) == 2
    assert "hydra.launcher.max_usd: 3 jobs could cost $0.90" in capsys.readouterr().err
    assert tuner.requests == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("launch=rehearsal",), "launch.tuner: only AWS has a tuner: launch=dry_run prints the request, a rehearsal"),
        (("launch=local",), "launch.tuner: no such key"),
        (("hydra/launcher=process",), "launch.tuner: the service starts the jobs: leave the launcher out, or set"),
        (
            ("hydra/launcher=sagemaker", "hydra.launcher.max_parallel=0"),
            "hydra.launcher.max_parallel: 0, at least 1 are needed",
        ),
        (("hydra.sweeper.sampler=cmaes",), "hydra.sweeper.sampler: a tuner has no cmaes: set tpe, random or grid"),
        (("model.nope=1,2",), "model.nope: no such key"),
        (("optimizer.lr=interval(-1,1)",), "optimizer.lr: expected a number > 0"),
        (("schema.id=row_id,nope",), "schema.id: train has no column 'nope'"),
        (("launch.job_name=a234567890123456789012345678901234",), "launch.job_name: 34 characters, at most 32"),
        (("launch.attach=t1",), "launch.attach: follows one tuner that runs already: leave out -m and the ranges"),
        (("launch.tuner=true,false",), "launch.tuner: is the same for all jobs"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(
    tuner: Tuner, sweep: Sweep, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], line: str
) -> None:
    assert sweep(*SEARCH, *overrides) == 2
    said = capsys.readouterr().err.splitlines()
    assert any(each.startswith(line) for each in said), said
    assert tuner.requests == []


def test_a_single_run_has_no_tuner(tuner: Tuner, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["launch=dry_run", "launch.tuner=true", f"launch.role={ROLE}"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "launch.tuner: is for a sweep: add -m and ranges, as hparams_search=optuna has them"
    ]


def test_it_needs_no_optuna(tuner: Tuner, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "optuna" or name.endswith("optuna_study")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert sweep(*SEARCH, "launch=dry_run") == 0


@pytest.mark.slow
def test_jobs_do_not_share_checkpoints_and_the_last_value_is_the_reports(
    tuner: Tuner, sweep: Sweep, tmp_path: Path
) -> None:
    """Two of a tuner's jobs run here on one checkpoint directory, as one place on S3; the second is interrupted."""
    pytest.importorskip("sagemaker_training")
    from tabstep.emulator.service import run_request
    from tabstep.launch.s3.download import fetch_channels

    slowly = ("trainer=cpu", "data.checks=off", "trainer.max_epochs=40", "data.batch_size=8")
    slowly += ("callbacks=no_early_stopping",)
    assert sweep(*SEARCH, *slowly, "launch.wait=false", "launch.spot=true") == 0
    [request] = tuner.requests
    reports = []
    for number, values in enumerate((VALUES, {**VALUES, "model.width": '"8"'})):
        place = tmp_path / "service" / str(number)
        place.mkdir(parents=True)
        if number:
            checkpoints = place / "algo-1" / "ml" / "checkpoints"
            checkpoints.parent.mkdir(parents=True)
            (place.parent / "0" / "algo-1" / "ml" / "checkpoints").rename(checkpoints)
        job = job_request(request, f"t1-00{number}", values)
        bucket, _, key = json.loads(job["HyperParameters"]["sagemaker_submit_directory"])[5:].partition("/")
        source = client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        channels = fetch_channels(job, place / "fetched", without={})
        outcome = run_request(job, source, channels, place, interrupt_after=3 if number else None)
        assert outcome.status == "Completed", outcome.failure
        report = json.loads((place / "algo-1" / "ml" / "output" / "data" / "report.json").read_text())
        told = outcome.metrics["Validation AUC ROC"]
        assert told[-1] == pytest.approx(report["val_auroc"], rel=1e-6)
        reports.append(report["val_auroc"])
        assert report["epochs"] == 40
        if number:
            assert sum(line.startswith("resume: going on from") for line in outcome.log) == 1
        else:
            assert len(told) == 41, "the epochs, then the line that is the result"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["t1-000", "t1-001"]
    assert reports[0] != reports[1]
