"""The real SDK sends a job to moto: what dry_run prints, once, after its source and data; and the way back."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

import tabstep
from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.launch import dispatch, prepare_job
from tabstep.launch.request import sdk
from tabstep.launch.source.bundle import Bundle, build_bundle

BUCKET, REGION = "tabstep-test", "eu-central-1"
ROLE = "arn:aws:iam::111122223333:role/training"


def settings_of(overrides: Sequence[str]) -> Settings:
    return parse(composed(overrides, [config_dir()]))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build_bundle()


@pytest.fixture
def overrides(aws: str, tiny_data: Path, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    # One bundle for all: an edit of the checkout while the tests run would make another.
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: bundle)
    return [
        "launch=sagemaker",
        f"launch.role={ROLE}",
        f"launch.bucket={BUCKET}",
        f"launch.output_path=s3://{BUCKET}/out",
        "launch.job_name=job-1",
        "launch.instance_type=ml.m5.xlarge",
        f"data.path={tiny_data}",
        f"paths.output_dir={tmp_path}/run",
        "trainer.max_epochs=1",
        "model.width=8",
        "model.depth=1",
    ]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The CreateTrainingJob requests that leave this process."""
    requests: list[dict[str, Any]] = []
    make = sdk.boto_session

    def recorded(region: str) -> Any:
        session = make(region)
        session.events.register(
            "before-send.sagemaker.CreateTrainingJob", lambda request, **_: requests.append(json.loads(request.body))
        )
        return session

    monkeypatch.setattr(sdk, "boto_session", recorded)
    return requests


def keys(s3: Any) -> set[str]:
    return {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


def launch(overrides: Sequence[str], *more: str) -> float | None:
    given = [*overrides, *more]
    return dispatch.launch(settings_of(given), given)


def test_sends_what_a_dry_run_prints(
    overrides: list[str], sent: list[dict[str, Any]], s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(overrides, "launch=dry_run")
    printed = json.loads(capsys.readouterr().out)
    assert keys(s3) == set()
    assert launch(overrides, "launch.wait=false") is None
    assert json.dumps(sent) == json.dumps([printed])  # in the same order too
    said = capsys.readouterr().err
    assert "launch.attach=job-1" in said
    assert f"s3://{BUCKET}/out/job-1/output/model.tar.gz" in said
    uris = {channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in printed["InputDataConfig"]}
    source = json.loads(printed["HyperParameters"]["sagemaker_submit_directory"])
    for uri in (*uris, source):
        assert any(f"s3://{BUCKET}/{key}".startswith(uri) for key in keys(s3))
    assert len(keys(s3)) == 4


def test_second_launch_sends_only_the_request(
    overrides: list[str], s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(overrides, "launch.wait=false")
    before = {key: s3.head_object(Bucket=BUCKET, Key=key)["LastModified"] for key in keys(s3)}
    launch(overrides, "launch.wait=false", "launch.job_name=job-2")
    assert {key: s3.head_object(Bucket=BUCKET, Key=key)["LastModified"] for key in keys(s3)} == before
    said = capsys.readouterr().err
    assert "are already at" in said
    assert "are on S3 already" in said


def test_too_dear_a_job_sends_nothing(overrides: list[str], s3: Any, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"{REGION}: {{ml.m5.xlarge: 1.0}}")
    with pytest.raises(ProblemsError, match=r"launch\.max_usd: the job could cost \$24\.00"):
        launch(overrides, "launch.max_usd=5", f"launch.prices={prices}")
    assert keys(s3) == set()


def test_tables_on_s3_are_looked_at_before_anything_is_sent(
    overrides: list[str], sent: list[dict[str, Any]], s3: Any, tiny_data: Path
) -> None:
    s3.upload_file(str(tiny_data / "train" / "train.parquet"), BUCKET, "t/train/a.parquet")
    there = [f"data.path=s3://{BUCKET}/t", "schema.label=lable"]
    with pytest.raises(ProblemsError) as caught:
        launch(overrides, *there, "launch.wait=false")
    assert [line.partition(": ")[0] for line in caught.value.problems] == ["data.val", "data.test", "schema.label"]
    assert keys(s3) == {"t/train/a.parquet"}
    launch(overrides, there[0], "schema.label=label", "launch.channels=[train]", "launch.wait=false")
    assert len(sent) == 1


def test_bucket_that_is_missing(overrides: list[str], sent: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"AWS refuses .*: create it"):
        launch(overrides, "launch.bucket=no-such-bucket", "launch.output_path=null")
    assert sent == []


def test_an_expired_token_is_told_as_such(
    overrides: list[str], sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.awsrequest import AWSResponse

    make = sdk.boto_session
    said = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"

    def answer(request: Any, **_: Any) -> AWSResponse:
        body = b"" if request.method == "HEAD" else said  # an answer to HEAD has no text
        return AWSResponse(request.url, 400, {}, SimpleNamespace(stream=lambda: iter([body])))

    def expired(region: str) -> Any:
        session = make(region)
        session.events.register("before-send.s3", answer)
        return session

    monkeypatch.setattr(sdk, "boto_session", expired)
    with pytest.raises(UserError, match=r"GetObject: The provided token has expired: sign in again"):
        launch(overrides, "launch.wait=false")
    assert sent == []


@pytest.mark.slow
def test_there_and_back(
    overrides: list[str],
    sent: list[dict[str, Any]],
    s3: Any,
    tmp_path: Path,
    tiny_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The request and the source that were sent are run here; what comes out is put where the service puts it."""
    pytest.importorskip("sagemaker_training")
    from tabstep.emulator.service import run_request
    from tabstep.launch.s3.download import fetch_channels

    launch(overrides, "launch.wait=false")
    (request,) = sent
    bucket, _, key = json.loads(request["HyperParameters"]["sagemaker_submit_directory"])[5:].partition("/")
    bundle = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    work = tmp_path / "service"
    work.mkdir()
    outcome = run_request(request, bundle, fetch_channels(request, work / "fetched", without={}), work)
    assert outcome.status == "Completed", "\n".join(outcome.log[-20:])
    for address, file in outcome.places.items():
        place, _, name = address[5:].partition("/")
        s3.put_object(Bucket=place, Key=name, Body=file.read_bytes())
    capsys.readouterr()
    value = launch(["launch=sagemaker", "launch.attach=job-1", f"paths.output_dir={tmp_path}/run"])
    run = tmp_path / "run"
    report = json.loads((run / "report.json").read_text())
    assert value == report["val_auroc"]
    test = tiny_data / "test" / "test.parquet"
    predicted = tabstep.load(run / "model").predict(test)
    truth = pq.read_table(run / "predictions" / "test.parquet")
    assert predicted["row_id"].to_pylist() == truth["row_id"].to_pylist()
    assert predicted["prob_yes"].to_pylist() == pytest.approx(truth["prob_yes"].to_pylist(), abs=1e-6)
    assert f"model:       {run}/model" in capsys.readouterr().out
    with tarfile.open(next(path for uri, path in outcome.places.items() if uri.endswith("model.tar.gz"))) as tar:
        assert "code/inference.py" in {name.removeprefix("./") for name in tar.getnames()}
