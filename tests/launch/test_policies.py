"""Every call that launching makes is allowed by the policies in policies/, and they allow hardly more."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sagemaker")

import boto3
import botocore.client
from tests.launch.conftest import BUCKET, REGION
from tests.launch.iam import POLICIES, Need, denied, listed, policy
from tests.launch.jobs import BUNDLE, ROLE, settings_of, spec_of
from tests.launch.pipeline.test_pipeline import PATHS, definition
from tests.launch.sweeps.test_trials import _logging_as_it_was

from tabstep import entry
from tabstep.errors import RetryError, UserError
from tabstep.launch import PytorchTrainingConfig, PyTorchTrainingStepBuilder, dispatch, prepare_job
from tabstep.launch.follow.follow_job import follow
from tabstep.launch.follow.job_log import GROUP
from tabstep.launch.request import render, sdk
from tabstep.launch.s3 import transfer

ROOT = POLICIES.parent
ACCOUNT = f"{REGION}:123456789012"
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
# What S3 asks the key of an encrypted bucket for, in the name of the caller.
KEY_ACTIONS = {
    "GetObject": ("kms:Decrypt",),
    "PutObject": ("kms:GenerateDataKey",),
    "CreateMultipartUpload": ("kms:GenerateDataKey",),
    "UploadPart": ("kms:GenerateDataKey", "kms:Decrypt"),
    "CompleteMultipartUpload": ("kms:Decrypt",),
}
KEY = "arn:aws:kms:eu-central-1:123456789012:key/key-1"
NAMES = {
    "TrainingJob": "training-job",
    "HyperParameterTuningJob": "hyper-parameter-tuning-job",
    "Pipeline": "pipeline",
    "Model": "model",
    "EndpointConfig": "endpoint-config",
    "Endpoint": "endpoint",
    "TransformJob": "transform-job",
}
OF_NO_ROLE = {"CreateEndpointConfig", "CreateEndpoint", "CreateTransformJob"}
FOR_PEOPLE = {  # the commands that a person is told, or needs beside a pipeline's definition
    "sagemaker:StopTrainingJob",
    "sagemaker:StopHyperParameterTuningJob",
    "sagemaker:StartPipelineExecution",
    "sagemaker:DescribePipelineExecution",
    "sagemaker:ListPipelineExecutionSteps",
    "sagemaker:UpdatePipeline",
    "sagemaker:DescribePipeline",
}
PIPELINES = "arn:aws:iam::123456789012:role/pipelines"
USER, ROLES = ("launching_user",), ("job_role",)


def actions(*names: str) -> set[str]:
    """Return the actions of policies, whatever they are on."""
    return {action for name in names for each in policy(name)["Statement"] for action in listed(each["Action"])}


def needs_of(service: str, operation: str, params: Mapping[str, Any]) -> Iterator[Need]:
    """Yield what IAM is asked when an operation is called."""
    if service == "S3":
        bucket = f"arn:aws:s3:::{params['Bucket']}"
        yield Need(S3_ACTIONS[operation], f"{bucket}/{params['Key']}" if "Key" in params else bucket)
    elif service == "CloudWatch Logs":
        yield Need(f"logs:{operation}", f"arn:aws:logs:{ACCOUNT}:log-group:{params['logGroupName']}:log-stream:x")
    else:
        assert service == "SageMaker", service
        [kind] = [kind for kind in NAMES if operation.endswith(kind)]
        arn = f"arn:aws:sagemaker:{ACCOUNT}:{NAMES[kind]}/{params[f'{kind}Name']}"
        yield Need(f"sagemaker:{operation}", arn)
        if operation.startswith("Create"):
            if operation not in OF_NO_ROLE:
                given = params.get("RoleArn") or params.get("ExecutionRoleArn")
                role = given or params["TrainingJobDefinition"]["RoleArn"]
                yield Need("iam:PassRole", role, {"iam:PassedToService": "sagemaker.amazonaws.com"})
            yield from [Need("sagemaker:AddTags", arn)] if params.get("Tags") else []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, aws: str) -> set[Need]:
    """What IAM would be asked in all calls that are made, by any client, to a bucket that is encrypted."""
    made: set[Need] = set()
    real = botocore.client.BaseClient._make_api_call

    def recorded(self: Any, operation: str, params: Any) -> Any:
        made.update(needs_of(self.meta.service_model.service_id, operation, params))
        made.update(Need(action, KEY) for action in KEY_ACTIONS.get(operation, ()))
        return real(self, operation, params)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", recorded)
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    return made


def check(calls: Iterable[Need], *names: str) -> set[str]:
    """Return the actions of calls that the policies allow; those on a key only with the policy for keys."""
    keys = {need for need in calls if need.action.startswith("kms:")}
    assert denied(set(calls) - keys, *names) == []
    assert denied(keys, *names, "launching_user_kms") == []
    assert not keys or denied(keys, *names) != []
    return {need.action for need in calls}


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
    calls: set[Need], tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PART", 1000)  # every file is sent in parts
    launch(tmp_path, tiny_data)
    made = check(calls, *USER)
    assert {"sagemaker:CreateTrainingJob", "s3:PutObject", "iam:PassRole", "kms:GenerateDataKey"} <= made


def test_following_is_covered(calls: set[Need], tmp_path: Path, tiny_data: Path) -> None:
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
    made = check(calls, *USER)
    assert {"sagemaker:DescribeTrainingJob", "logs:DescribeLogStreams", "logs:GetLogEvents"} <= made


def test_a_tuner_is_covered(calls: set[Need], tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.chdir(tmp_path)
    argv = ["-m", "launch=sagemaker", "launch.tuner=true", f"launch.role={ROLE}", f"launch.bucket={BUCKET}"]
    argv += ["launch.instance_type=ml.m5.xlarge", f"data.path={tiny_data}", "hydra.sweep.dir=s", "seed=1,2"]
    with _logging_as_it_was():
        entry.main(argv)  # moto's tuner ends at once, with a job that there is not
    made = check(calls, *USER)
    assert {"sagemaker:CreateHyperParameterTuningJob", "sagemaker:DescribeHyperParameterTuningJob"} <= made


def test_a_pipeline_is_covered(calls: set[Need]) -> None:
    paths: dict[str, Any] = {name: f"s3://{BUCKET}/{name}" for name in ("input_path", "output_path", "checkpoint_path")}
    config = PytorchTrainingConfig(**paths, hyperparameters=["seed=1"])
    calls.clear()  # rendered as any role to be checked, and not sent
    made = PyTorchTrainingStepBuilder(config, ROLE).create_step(name="Train")
    with sdk.quiet():
        from sagemaker.workflow.pipeline import Pipeline

        session = sdk.session(sdk.boto_session(REGION), BUCKET, pipeline=True)
        Pipeline(name="p", steps=[made], sagemaker_session=session).create(PIPELINES)
    asked = check(calls, *USER, "launching_user_pipelines")
    assert {"sagemaker:CreatePipeline", "s3:PutObject"} <= asked
    assert denied(calls, *USER, "launching_user_kms") != [], "who makes no pipelines needs no rights for them"


def test_serving_is_covered(calls: set[Need]) -> None:
    """What docs/serving.md does with the SDK: an endpoint, and a batch transform that is waited for."""
    session = sdk.session(sdk.boto_session(REGION), BUCKET)
    with sdk.quiet():
        from sagemaker.model import Model

        model = Model("image", f"s3://{BUCKET}/model.tar.gz", role=ROLE, sagemaker_session=session)
        model.deploy(initial_instance_count=1, instance_type="ml.m5.large", endpoint_name="customers", wait=False)
        transformer = model.transformer(1, "ml.m5.xlarge", output_path=f"s3://{BUCKET}/predictions")
        transformer.transform(f"s3://{BUCKET}/rows.csv", job_name="transform-1", wait=False)
    session.sagemaker_client.describe_endpoint(EndpointName="customers")
    session.sagemaker_client.describe_transform_job(TransformJobName="transform-1")
    made = check(calls, *USER, "launching_user_serving")
    created = {"CreateModel", "CreateEndpointConfig", "CreateEndpoint", "CreateTransformJob"}
    described = {"DescribeEndpoint", "DescribeTransformJob"}
    assert {f"sagemaker:{name}" for name in created | described} <= made
    assert denied(calls, *USER) != [], "who serves no model needs no rights for that"
    people = {"DeleteModel", "DeleteEndpoint", "DeleteEndpointConfig", "InvokeEndpoint", "StopTransformJob", "AddTags"}
    log = {"logs:DescribeLogStreams", "logs:GetLogEvents"}
    needed = {f"sagemaker:{name}" for name in created | described | people} | log | {"iam:PassRole"}
    assert actions("launching_user_serving") == needed


def test_the_users_policies_allow_hardly_more() -> None:
    needed = {*S3_ACTIONS.values(), "sagemaker:AddTags", "iam:PassRole", *FOR_PEOPLE}
    needed |= {"sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:CreatePipeline"}
    needed |= {"sagemaker:CreateHyperParameterTuningJob", "sagemaker:DescribeHyperParameterTuningJob"}
    needed |= {"logs:DescribeLogStreams", "logs:GetLogEvents"}
    assert actions("launching_user", "launching_user_pipelines") == needed
    assert actions("launching_user_kms") == {action for each in KEY_ACTIONS.values() for action in each}


def role_needs(request: Mapping[str, Any]) -> dict[str, set[Need]]:
    """Return what the service does in the name of a job's role, by AWS's own list, and the policy that is for it."""
    places = [each["DataSource"]["S3DataSource"]["S3Uri"] for each in request.get("InputDataConfig", ())]
    outputs = [request["OutputDataConfig"]["S3OutputPath"], request["CheckpointConfig"]["S3Uri"]]
    objects = [f"arn:aws:s3:::{uri.removeprefix('s3://').rstrip('/')}/x" for uri in (*places, *outputs)]
    group = f"arn:aws:logs:{ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs"
    found = {
        "job_role": {
            *(Need(action, uri) for uri in objects for action in ("s3:GetObject", "s3:PutObject")),
            *(Need("s3:ListBucket", uri.partition("/")[0]) for uri in objects),
            *(Need(f"ecr:{action}") for action in ("GetAuthorizationToken", "BatchGetImage", "GetDownloadUrlForLayer")),
            *(Need(f"logs:{action}", group) for action in ("CreateLogGroup", "CreateLogStream", "PutLogEvents")),
            Need("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"}),
        }
    }
    if "VpcConfig" in request:
        interface = ("CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface")
        about = ("DescribeNetworkInterfaces", "DescribeVpcs", "DescribeDhcpOptions", "DescribeSubnets")
        found["job_role_vpc"] = {Need(f"ec2:{action}") for action in (*interface, *about, "DescribeSecurityGroups")}
    if "VolumeKmsKeyId" in request["ResourceConfig"]:
        grant = Need("kms:CreateGrant", KEY, {"kms:GrantIsForAWSResource": "true"})
        found["job_role_kms"] = {grant, *(Need(f"kms:{action}", KEY) for action in ("GenerateDataKey", "Decrypt"))}
    if "CA_REPOSITORY_ARN" in request.get("Environment", {}):
        domain = f"arn:aws:codeartifact:{ACCOUNT}:domain/d"
        token = Need("sts:GetServiceBearerToken", "*", {"sts:AWSServiceName": "codeartifact.amazonaws.com"})
        found["job_role_codeartifact"] = {token, Need("codeartifact:GetAuthorizationToken", domain)}
    return found


def documented() -> list[list[str]]:
    """Return the overrides of each documented command that sends a job or shows its request."""
    texts = [
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("sagemaker.md", "pipelines.md", "sweeps.md")
    ]
    blocks = [block for text in texts for block in re.findall(r"```bash\n(.*?)```", text, re.S)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line.partition(" > ")[0], comments=True) for line in lines if "train.py" in line]
    return [words[2:] for words in commands if {"launch=sagemaker", "launch=dry_run"} & set(words)]


def request_of(*overrides: str, **launch: Any) -> dict[str, Any]:
    return render.request(spec_of(settings_of(*overrides, region=REGION, bucket=BUCKET, **launch)))


FEATURES: dict[str, dict[str, Any]] = {
    "job_role": {"spot": True},
    "job_role_vpc": {"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]},
    "job_role_kms": {"instance_type": "ml.m5.xlarge", "volume_kms_key": KEY, "output_kms_key": KEY},
    "job_role_codeartifact": {"ca_repository_arn": f"arn:aws:codeartifact:{ACCOUNT}:repository/d/r"},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_the_jobs_role_has_what_a_feature_needs_and_no_other(feature: str) -> None:
    found = role_needs(request_of(**FEATURES[feature]))
    needs = set().union(*found.values())
    assert denied(needs, *ROLES, feature) == []
    if feature != "job_role":
        assert set(found) == {"job_role", feature}
        assert set(denied(needs, *ROLES)) == {str(need) for need in found[feature]}


def test_every_documented_command_is_covered() -> None:
    found = documented()
    assert len(found) >= 5
    for overrides in found:
        launch = [text for text in overrides if text.startswith("launch.")]
        shown = {"launch.prices", "launch.attach", "launch.region", "launch.tuner", "launch.list_bundle"}
        request = request_of(*(text for text in launch if text.partition("=")[0] not in shown))
        needs = role_needs(request)
        assert denied(set().union(*needs.values()), *needs) == [], overrides
        assert denied(needs_of("SageMaker", "CreateTrainingJob", request), *USER) == [], overrides


def test_a_job_can_start_no_other_and_take_no_key() -> None:
    found = actions("job_role")
    assert {action.partition(":")[0] for action in found} == {"s3", "ecr", "logs", "cloudwatch"}
    everything = actions(*(path.stem for path in POLICIES.glob("job_role*.json") if path.stem != "job_role_trust"))
    assert not {"sagemaker:CreateTrainingJob", "iam:PassRole"} & everything
    own = Need("kms:CreateGrant", KEY.replace("key-1", "key-2"), {"kms:GrantIsForAWSResource": "true"})
    assert denied([own, Need("kms:CreateGrant", KEY)], "job_role_kms") != []


@pytest.mark.slow
def test_the_pipelines_role_runs_the_documented_steps(monkeypatch: pytest.MonkeyPatch, aws: str) -> None:
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    session = sdk.session(sdk.boto_session(REGION), BUCKET, pipeline=True)
    config = PytorchTrainingConfig(**PATHS, hyperparameters=["schema.label=y"])
    builder = PyTorchTrainingStepBuilder(config, ROLE, session, upload=False)
    trained, tuned = builder.create_step(name="Train"), builder.create_tuning_step(["seed=1,2"], name="Tune")
    steps = [
        trained,
        tuned,
        builder.create_registration_step(trained, "m"),
        builder.create_registration_step(tuned, "m"),
    ]
    kinds = {each["Type"] for each in definition(session, *steps).values()}
    needed = {
        "Training": ("training-job", {"CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags"}),
        "Tuning": (
            "hyper-parameter-tuning-job",
            {
                "CreateHyperParameterTuningJob", "DescribeHyperParameterTuningJob", "StopHyperParameterTuningJob",
                "ListTrainingJobsForHyperParameterTuningJob", "AddTags",
            },
        ),
        "RegisterModel": ("model-package", {"CreateModelPackage", "DescribeModelPackage", "AddTags"}),
    }  # fmt: skip
    assert kinds == needed.keys()
    needs = {
        Need(f"sagemaker:{action}", f"arn:aws:sagemaker:{ACCOUNT}:{kind}/x")
        for kind, each in needed.values()
        for action in each
    }
    needs |= {
        Need("iam:PassRole", ROLE, {"iam:PassedToService": "sagemaker.amazonaws.com"}),
        Need("sagemaker:CreateModelPackageGroup", f"arn:aws:sagemaker:{ACCOUNT}:model-package-group/m"),
        Need("s3:GetObject", f"arn:aws:s3:::{BUCKET}/x"),
    }
    assert denied(needs, "pipeline_role") == []
    assert actions("pipeline_role") <= {need.action for need in needs} | {"sagemaker:DescribeModelPackageGroup"}
    assert denied([Need("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"})], "pipeline_role") != []


@pytest.mark.parametrize("name", sorted(path.stem for path in POLICIES.glob("*.json") if "trust" not in path.stem))
def test_policies_are_narrow_and_of_no_account(name: str) -> None:
    statements = policy(name)["Statement"]
    assert len({each["Sid"] for each in statements}) == len(statements)
    assert all(each["Sid"].isalnum() for each in statements)
    assert not [found for found in actions(name) if "*" in found]
    resources = {each["Sid"]: str(each["Resource"]) for each in statements}
    assert all(("ACCOUNT" in text or "BUCKET" in text or text == "*") for text in resources.values())
    # services that know no narrower resource for these
    wide = {sid for sid, text in resources.items() if text == "*"}
    assert wide <= {"Image", "ImageLogin", "Metrics", "NetworkInterfaces", "TokenForPackages"}


def test_only_the_service_may_take_on_the_role() -> None:
    [statement] = policy("job_role_trust")["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
