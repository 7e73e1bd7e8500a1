"""Every call that launching makes is allowed by the policy in policies/, and the policy allows hardly more."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sagemaker")

import boto3
import botocore.client
from tests.launch.conftest import BUCKET, REGION
from tests.launch.jobs import BUNDLE, ROLE, settings_of
from tests.launch.sweeps.test_trials import _logging_as_it_was

from tabstep import entry
from tabstep.errors import RetryError, UserError
from tabstep.launch import PytorchTrainingConfig, PyTorchTrainingStepBuilder, dispatch, job
from tabstep.launch.follow.job import follow
from tabstep.launch.follow.job_log import GROUP
from tabstep.launch.request import sdk
from tabstep.launch.s3 import transfer

POLICIES = Path(__file__).resolve().parents[2] / "policies"
# What IAM calls an operation of S3, where it has a name of its own.
S3_ACTIONS = {
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListObjectsV2": "s3:ListBucket",
}
PREFIXES = {"SageMaker": "sagemaker", "CloudWatch Logs": "logs"}
FOR_PEOPLE = {  # the commands that a person is told, or needs beside a pipeline's definition
    "sagemaker:StopTrainingJob",
    "sagemaker:StopHyperParameterTuningJob",
    "sagemaker:StartPipelineExecution",
    "sagemaker:DescribePipelineExecution",
    "sagemaker:ListPipelineExecutionSteps",
    "sagemaker:UpdatePipeline",
}
IMPLIED = {"sagemaker:AddTags", "iam:PassRole"}  # asked for by CreateTrainingJob and CreatePipeline
OF_INTERRUPTED_UPLOADS = {"s3:AbortMultipartUpload"}


def policy(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def actions(name: str) -> set[str]:
    listed = [each["Action"] for each in policy(name)["Statement"]]
    return {action for each in listed for action in ([each] if isinstance(each, str) else each)}


def action(service: str, operation: str) -> str:
    return S3_ACTIONS[operation] if service == "S3" else f"{PREFIXES[service]}:{operation}"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, aws: str) -> set[str]:
    """The actions of all calls that are made, by any client."""
    made: set[str] = set()
    real = botocore.client.BaseClient._make_api_call

    def recorded(self: Any, operation: str, params: Any) -> Any:
        made.add(action(self.meta.service_model.service_id, operation))
        return real(self, operation, params)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", recorded)
    monkeypatch.setattr(job, "build_bundle", lambda *_, **__: BUNDLE)
    return made


def launch(tmp_path: Path, tiny_data: Path) -> None:
    settings = settings_of(
        f"data.path={tiny_data}",
        f"paths.output_dir={tmp_path / 'run'}",
        name="sagemaker",
        role=ROLE,
        region=REGION,
        bucket=BUCKET,
        job_name="job-1",
        wait=False,
    )
    dispatch.launch(settings, ["seed=1"])


def test_launching_is_covered(
    calls: set[str], tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PART", 1000)  # every file is sent in parts
    launch(tmp_path, tiny_data)
    assert {"sagemaker:CreateTrainingJob", "s3:PutObject"} <= calls
    assert calls <= actions("launching_user")


def test_following_is_covered(calls: set[str], tmp_path: Path, tiny_data: Path) -> None:
    launch(tmp_path, tiny_data)
    session = boto3.Session(region_name=REGION)
    logs = session.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="job-1/algo-1")
    events = [{"timestamp": int(time.time() * 1000), "message": "hello"}]
    logs.put_log_events(logGroupName=GROUP, logStreamName="job-1/algo-1", logEvents=events)
    calls.clear()
    with suppress(UserError, RetryError):  # moto's job ends at once and leaves no artifact
        follow("job-1", session, settings_of(f"paths.output_dir={tmp_path / 'run'}"), sleep=lambda _: None)
    assert {"sagemaker:DescribeTrainingJob", "logs:DescribeLogStreams", "logs:GetLogEvents"} <= calls
    assert calls <= actions("launching_user")


def test_a_tuner_is_covered(calls: set[str], tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    argv = ["-m", "launch=sagemaker", "launch.tuner=true", f"launch.role={ROLE}", f"launch.bucket={BUCKET}"]
    argv += ["launch.instance_type=ml.m5.xlarge", f"data.path={tiny_data}", "hydra.sweep.dir=s", "seed=1,2"]
    with _logging_as_it_was():
        entry.main(argv)  # moto's tuner ends at once, with a job that there is not
    assert {"sagemaker:CreateHyperParameterTuningJob", "sagemaker:DescribeHyperParameterTuningJob"} <= calls
    assert calls <= actions("launching_user")


def test_a_pipeline_is_covered(calls: set[str]) -> None:
    paths = {name: f"s3://{BUCKET}/{name}" for name in ("input_path", "output_path", "checkpoint_path")}
    config = PytorchTrainingConfig(**paths, hyperparameters=["seed=1"])
    made = PyTorchTrainingStepBuilder(config, ROLE).create_step(name="Train")
    with sdk.quiet():
        from sagemaker.workflow.pipeline import Pipeline

        session = sdk.session(sdk.boto_session(REGION), BUCKET, pipeline=True)
        Pipeline(name="p", steps=[made], sagemaker_session=session).create(ROLE)
    assert {"sagemaker:CreatePipeline", "s3:PutObject"} <= calls
    assert calls <= actions("launching_user")


def test_the_users_policy_allows_hardly_more() -> None:
    needed = set(S3_ACTIONS.values()) | IMPLIED | FOR_PEOPLE | OF_INTERRUPTED_UPLOADS
    needed |= {"sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:CreatePipeline"}
    needed |= {"sagemaker:CreateHyperParameterTuningJob", "sagemaker:DescribeHyperParameterTuningJob"}
    needed |= {"sagemaker:DescribePipeline", "logs:DescribeLogStreams", "logs:GetLogEvents"}
    assert actions("launching_user") == needed


@pytest.mark.parametrize("name", ["launching_user", "job_role"])
def test_policies_are_narrow_and_of_no_account(name: str) -> None:
    statements = policy(name)["Statement"]
    assert len({each["Sid"] for each in statements}) == len(statements)
    assert all(each["Sid"].isalnum() for each in statements)
    assert not [found for found in actions(name) if "*" in found]
    resources = {each["Sid"]: str(each["Resource"]) for each in statements}
    assert all(("ACCOUNT" in text or "BUCKET" in text or text == "*") for text in resources.values())
    # services that know no narrower resource for these
    wide = {sid for sid, text in resources.items() if text == "*"}
    assert wide <= {"Image", "ImageLogin", "Metrics", "OnlyWithAVpc", "OnlyWithCodeArtifactToo"}


def test_the_jobs_role_covers_what_the_service_does_for_it() -> None:
    """The service acts as the role, out of sight: this is AWS's own list for a job, by what the job asks for."""
    needed = {
        "the tables and the source": {"s3:GetObject", "s3:ListBucket"},
        "the artifact and the checkpoints": {"s3:PutObject"},
        "the image": {"ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"},
        "the log": {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"},
        "the metrics": {"cloudwatch:PutMetricData"},
        "a VPC": {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeSubnets"},
        "keys": {"kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKey"},
        "CodeArtifact": {"codeartifact:GetAuthorizationToken", "sts:GetServiceBearerToken"},
        "a registered model": {"sagemaker:CreateModelPackage"},
    }
    assert {what for what, wanted in needed.items() if not wanted <= actions("job_role")} == set()


def test_only_the_service_may_take_on_the_role() -> None:
    [statement] = policy("job_role_trust")["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
