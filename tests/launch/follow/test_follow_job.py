"""A job is followed from its first status to its artifact: the service is scripted, log and bucket are moto's."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.launch.conftest import JOB
from tests.launch.jobs import archive

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.launch.follow.follow_job import follow
from tabstep.launch.follow.job_log import JobLog
from tabstep.launch.follow.watch import attach
from tabstep.log_lines import epoch_line

ROOT = Path(__file__).parents[3]
NAME, BUCKET, REGION = JOB, "tabstep-test", "eu-central-1"
OUTPUT = f"s3://{BUCKET}/tabstep/output"
ARTIFACT = f"{OUTPUT}/{NAME}/output/model.tar.gz"
START = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
STEPS = [
    ("Starting", "Preparing the instances for training"),
    ("Downloading", "Downloading the training image"),
    ("Training", "Training image download completed. Training in progress."),
    ("Uploading", "Uploading generated training model"),
    ("Completed", "Training job completed"),
]


def line(epoch: int) -> str:
    values = {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 0.5, "val_loss": 0.5, "val_auroc": 0.75}
    return epoch_line(values)


def description(steps: int, status: str = "InProgress", **more: Any) -> dict[str, Any]:
    shown = STEPS[:steps]
    return {
        "TrainingJobName": NAME,
        "TrainingJobStatus": status,
        "SecondaryStatus": shown[-1][0],
        "SecondaryStatusTransitions": [
            {"Status": name, "StatusMessage": text, "StartTime": START + dt.timedelta(minutes=index)}
            for index, (name, text) in enumerate(shown)
        ],
        "OutputDataConfig": {"S3OutputPath": OUTPUT},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
        **more,
    }


FINISHED = description(
    5,
    "Completed",
    ModelArtifacts={"S3ModelArtifacts": ARTIFACT},
    TrainingTimeInSeconds=1000,
    BillableTimeInSeconds=300,
    EnableManagedSpotTraining=True,
)


class Service:
    """SageMaker as far as a follower sees it: one answer after the other, the last one for good."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self._answers = list(answers)
        self.asked = 0

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
        assert TrainingJobName == NAME
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if callable(answer):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        found: dict[str, Any] = answer
        return found


class Session:
    """A boto3 session whose SageMaker is scripted."""

    region_name = REGION

    def __init__(self, service: Service) -> None:
        self._service = service

    def client(self, name: str) -> Any:
        import boto3

        return self._service if name == "sagemaker" else boto3.client(name, region_name=REGION)


@pytest.fixture
def settings(tmp_path: Path, aws: str) -> Settings:
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"{REGION}: {{ml.m5.xlarge: 3.0}}")
    overrides = ["launch=sagemaker", f"launch.attach={NAME}", f"launch.prices={prices}"]
    overrides += [f"paths.output_dir={tmp_path}/run"]
    return parse(composed(overrides, [config_dir()]))


def put(s3: Any, name: str, data: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"tabstep/output/{NAME}/output/{name}", Body=data)


def watch(settings: Settings, answers: Sequence[Any]) -> tuple[list[str], float | None]:
    said: list[str] = []
    session = Session(Service(answers))
    value = follow(NAME, session, settings, sleep=lambda _: None, show=said.append)
    return said, value


def test_whole_story(settings: Settings, s3: Any, log: Callable[..., None], tmp_path: Path) -> None:
    put(s3, "model.tar.gz", archive({"manifest.json": b"{}", "code/inference.py": b"pass"}))
    put(s3, "output.tar.gz", archive({"report.json": json.dumps({"val_auroc": 0.75}).encode(), "predictions/a": b"x"}))

    def training() -> dict[str, Any]:
        log("Invoking script with the following command:", line(1), "noise")
        return description(3)

    def more() -> dict[str, Any]:
        log(line(2), "Epoch: is no epoch line")
        return description(3)

    said, value = watch(settings, [description(1), description(2), training, more, more, FINISHED])
    assert value == 0.75
    expected = [text for name, text in STEPS]
    assert [text.partition(": ")[2] for text in said if text[2:3] == ":"] == expected
    assert [text for text in said if text.startswith("Epoch")] == [line(1), line(2), line(2)]
    assert said.index(line(1)) < next(index for index, text in enumerate(said) if "Uploading" in text)
    bill = next(text for text in said if text.startswith("Completed after"))
    assert bill.startswith(
        "Completed after 0:16:40; billed 300 s an instance: 0.17 instance hours of ml.m5.xlarge, $0."
    )
    assert "spot saved 70%" in said
    assert f"artifact: {ARTIFACT}" in said
    run = tmp_path / "run"
    assert (run / "model" / "code" / "inference.py").read_bytes() == b"pass"
    assert (run / "predictions" / "a").read_bytes() == b"x"
    assert sorted(path.name for path in run.iterdir()) == ["model", "predictions", "report.json"]


def test_ctrl_c_leaves_the_job_running(settings: Settings, aws: str) -> None:
    with pytest.raises(StoppedError) as stopped:
        watch(settings, [description(1), KeyboardInterrupt()])
    text = str(stopped.value)
    assert stopped.value.exit_code == 130
    assert f"python train.py launch=sagemaker launch.attach={NAME} launch.region={REGION}" in text
    assert f"aws sagemaker stop-training-job --training-job-name {NAME} --region {REGION}" in text
    assert ARTIFACT in text


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (
            {"FailureReason": 'AlgorithmError: ExecuteUserScriptError:\nErrorMessage "data.train: bad"'},
            UserError,
            'failed: AlgorithmError: ExecuteUserScriptError:\nErrorMessage "data.train: bad"',
        ),
        ({}, UserError, "failed: the service gives no reason"),
        ({"FailureReason": "CapacityError: Unable to provision"}, RetryError, "failed: CapacityError"),
        (
            {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"},
            UserError,
            "launch.max_run is over: set it higher; launch.checkpoint_path=s3://b/ckpt goes on",
        ),
        ({"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxWaitTimeExceeded"}, UserError, "no spot capacity"),
        ({"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}, UserError, "was stopped by someone"),
    ],
)
def test_job_without_a_model(
    answer: dict[str, Any], error: type[Exception], reason: str, settings: Settings, log: Callable[..., None]
) -> None:
    log("Traceback", "the last line", line(1))
    ended = {**description(3, "Failed", CheckpointConfig={"S3Uri": "s3://b/ckpt"}), **answer}
    said: list[str] = []
    with pytest.raises(error) as caught:
        follow(NAME, Session(Service([ended])), settings, sleep=lambda _: None, show=said.append)
    assert reason in str(caught.value)
    tail_is_due = error is UserError and ended["TrainingJobStatus"] == "Failed" and "FailureReason" not in answer
    assert ("  the last line" in said) is tail_is_due


def test_prices_that_cannot_be_read_are_told_before_the_job_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").unlink()
    service = Service([description(1)])
    with pytest.raises(UserError, match=r"launch\.prices: .* cannot be read"):
        follow(NAME, Session(service), settings, sleep=lambda _: None)
    assert service.asked == 0


def test_unknown_job(settings: Settings, aws: str) -> None:
    with pytest.raises(UserError, match=rf"launch\.attach: job {NAME} in {REGION}: AWS refuses DescribeTrainingJob"):
        attach(settings, follow)


def unreachable() -> Exception:
    from botocore.exceptions import EndpointConnectionError

    return EndpointConnectionError(endpoint_url="https://api.sagemaker")


def test_lost_connection_is_waited_for(settings: Settings, s3: Any) -> None:
    put(s3, "model.tar.gz", archive({"a": b""}))
    said, _ = watch(settings, [description(1), unreachable(), unreachable(), FINISHED])
    assert sum(f"job {NAME} runs on" in text for text in said) == 1


def test_connection_lost_for_good(settings: Settings, aws: str) -> None:
    with pytest.raises(RetryError, match=rf"(?s)cannot be reached.*launch\.attach={NAME}"):
        watch(settings, [description(1), unreachable()])


def expired() -> Exception:
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": "ExpiredTokenException", "Message": "The security token is expired"}}
    return ClientError(answer, "DescribeTrainingJob")


def test_expired_token_is_no_end_of_the_job(settings: Settings, aws: str) -> None:
    with pytest.raises(RetryError) as caught:
        watch(settings, [description(1), expired()])
    text = str(caught.value)
    assert caught.value.exit_code == 75
    assert "The security token is expired: sign in again" in text
    assert f"python train.py launch=sagemaker launch.attach={NAME} launch.region={REGION}" in text


@pytest.mark.parametrize("code", ["ExpiredToken", "400", "RequestTimeout"])
def test_model_that_cannot_be_fetched_now_is_fetched_later(
    settings: Settings, s3: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    call = BaseClient._make_api_call

    def refused(client: Any, operation: str, arguments: Any) -> Any:
        if operation in ("HeadObject", "GetObject"):
            raise ClientError({"Error": {"Code": code, "Message": "Bad Request"}}, operation)
        return call(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", refused)
    with pytest.raises(RetryError, match=rf"(?s)job {NAME} has ended\n  fetch it: .*launch\.attach={NAME}"):
        watch(settings, [FINISHED])


def test_log_that_may_not_be_read(settings: Settings, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    put(s3, "model.tar.gz", archive({"a": b""}))

    def refuse(self: JobLog) -> Iterator[str]:
        with refusals("log"):
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "DescribeLogStreams")
        yield ""

    from tabstep.launch.s3.aws_errors import refusals

    monkeypatch.setattr(JobLog, "_lines", refuse)
    said, _ = watch(settings, [description(3), description(3), FINISHED])
    assert sum("the epochs cannot be shown" in text for text in said) == 1


class Forever(BaseHTTPRequestHandler):
    """A service whose job never ends."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answers = {
            "DescribeTrainingJob": description(3),
            "DescribeLogStreams": {"logStreams": []},
        }
        data = json.dumps(answers[self.headers["X-Amz-Target"].rpartition(".")[2]], default=datetime_seconds).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def datetime_seconds(value: dt.datetime) -> float:
    return value.timestamp()


def test_ctrl_c_on_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("sagemaker")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forever)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, str(ROOT / "train.py"), "launch=sagemaker", f"launch.attach={NAME}"]
    places = [f"launch.region={REGION}", f"paths.output_dir={tmp_path}/run"]
    with subprocess.Popen(
        [*command, *places], env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while "Training: " not in (shown := process.stdout.readline()):
            assert shown, process.communicate()[1]
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    server.shutdown()
    server.server_close()
    assert process.returncode == 130
    assert f"launch.attach={NAME}" in errors
    assert "Traceback" not in errors
