from __future__ import annotations

import datetime
from typing import Any

import pytest

pytest.importorskip("botocore")

from dataclasses import replace

from tests.launch.jobs import NOW, PAYLOAD, remote_of, settings_of, spec_of

from tabstep.launch.request import spec_problems

TODAY = NOW.date()
Launch = dict[str, Any]
ARN = "arn:aws:codeartifact:eu-west-1:123456789012:repository"


def problems(*overrides: str, **launch: Any) -> list[str]:
    settings = settings_of(*overrides, **launch)
    return spec_problems.problems(spec_of(settings), remote_of(settings), settings.trainer)


def warnings(*overrides: str, today: datetime.date = TODAY, **launch: Any) -> list[str]:
    settings = settings_of(*overrides, **launch)
    return spec_problems.warnings(spec_of(settings), remote_of(settings), settings.trainer, today)


def test_the_default_job_is_sound() -> None:
    assert problems() == []


BROKEN: list[tuple[tuple[str, ...], Launch, str]] = [
    ((), {"role": None}, "launch.role: is missing: set it, or the environment variable SAGEMAKER_ROLE"),
    ((), {"role": "job"}, "launch.role: expected the ARN of a role, .*: `aws iam get-role --role-name job` prints it"),
    ((), {"role": "arn:aws:iam::12:role/x"}, "launch.role: expected the ARN of a role"),
    ((), {"role": "arn:aws:iam::123456789012:user/x"}, "launch.role: expected the ARN of a role"),
    ((), {"region": None}, "launch.region: is missing: set it, or AWS_REGION"),
    ((), {"region": "eu-wst-1"}, "launch.region: no such region: 'eu-wst-1': did you mean 'eu-west-1'"),
    (
        (),
        {"region": "eu-wst-1", "image_uri": "x"},
        "launch.region: no such region: 'eu-wst-1': did you mean 'eu-west-1'",
    ),
    ((), {"torch": "1.9"}, "launch.torch: there is no image of torch '1.9' in the table"),
    ((), {"framework_version": "2.8.0"}, "launch.framework_version, launch.py_version: set both"),
    ((), {"framework_version": "1.13.1", "py_version": "py39"}, "launch.py_version: py39 is too old for tabstep"),
    ((), {"max_wait": 3}, "launch.max_wait: is for spot capacity: set launch.spot=true"),
    ((), {"spot": True, "max_run": 10, "max_wait": 9}, "launch.max_wait: 9 is less than launch.max_run=10"),
    ((), {"spot": True, "checkpoint_path": "none"}, "launch.spot: needs checkpoints"),
    ((), {"spot": True, "keep_alive": 60}, "launch.keep_alive: a warm pool cannot hold spot capacity"),
    ((), {"subnets": ["s"]}, "launch.subnets, launch.security_group_ids: a VPC needs both"),
    ((), {"security_group_ids": ["s"]}, "launch.subnets, launch.security_group_ids: a VPC needs both"),
    ((), {"max_run": 2_419_201}, "launch.max_run: 2419201 s, at most 2419200 .28 days. are allowed"),
    ((), {"network_isolation": True}, "launch.network_isolation: AWS's images lack hydra-core and lightning"),
    (
        (),
        {"network_isolation": True, "image_uri": "763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch:2.13-cpu-x"},
        "launch.network_isolation: AWS's images lack hydra-core and lightning",
    ),
    (
        (),
        {"image_uri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"},
        "launch.image_uri: lies in us-east-1, and a job in eu-west-1 takes one of its own region only",
    ),
    (
        (),
        {"ca_repository_arn": "arn:aws:codeartifact:eu-west-1:1:repository/r"},
        "launch.ca_repository_arn: expected arn:",
    ),
    *(
        ((), {"ca_repository_arn": f"{ARN}/{place}"}, "launch.ca_repository_arn: expected arn:")
        for place in ("d/repo", "Domain/repo", "domain/r", f"{'d' * 51}/repo", f"domain/{'r' * 101}", "domain/-repo")
    ),
    ((), {"environment": {"DB_PASSWORD": "hunter2"}}, "launch.environment DB_PASSWORD: looks like a secret"),
    ((), {"environment": {"A": "AKIA" + "Q" * 16}}, "launch.environment A: looks like a secret"),
    ((), {"tags": {"x": "ghp_" + "a1" * 18}}, "launch.tags x: looks like a secret"),
    ((), {"instance_type": "ml.g5.12xlrge"}, "launch.instance_type: .*'ml.g5.12xlrge': did you mean 'ml.g5.12xlarge'"),
    ((), {"instance_type": "g5.xlarge"}, "launch.instance_type: .*'g5.xlarge': did you mean 'ml.g5.xlarge'"),
    ((), {"instance_type": "ml.trn1.2xlarge"}, "launch.instance_type: ml.trn1.2xlarge has no GPU that torch's images"),
    (("trainer=gpu",), {"instance_type": "ml.m5.xlarge"}, "launch.instance_type: ml.m5.xlarge has no GPU"),
    ((), {"instance_type": "ml.m5.xlarge", "instance_count": 2}, "launch.instance_count: 2 instances need GPUs"),
    (("trainer.devices=2",), {}, "trainer.devices: 2 on ml.g5.12xlarge, whose 4 GPUs run one process each"),
    (("trainer.devices=2",), {"instance_type": "ml.g5.xlarge"}, "trainer.devices: 2 on ml.g5.xlarge, whose 1 GPUs"),
    ((), {"instance_count": 2}, "trainer.devices: 1 on ml.g5.12xlarge, whose 4 GPUs run one process each"),
    ((), {"volume_kms_key": "k"}, "launch.volume_kms_key: ml.g5.12xlarge has a disk of its own"),
    ((), {"output_path": "s3://bucket"}, "launch.output_path: 's3://bucket' names a whole bucket"),
]


@pytest.mark.parametrize(("overrides", "launch", "line"), BROKEN, ids=[line[:40] for _, _, line in BROKEN])
def test_each_fault_is_one_line(overrides: tuple[str, ...], launch: Launch, line: str) -> None:
    import re

    [found] = problems(*overrides, **launch)
    assert re.match(line, found), found
    assert "\n" not in found


def test_all_faults_at_once() -> None:
    found = problems(role=None, instance_type="ml.g5.12xlrge", max_wait=3, output_path="x", subnets=["s"])
    assert [line.split(":")[0] for line in found] == [
        "launch.role",
        "launch.output_path",
        "launch.max_wait",
        "launch.subnets, launch.security_group_ids",
        "launch.instance_type",
    ]


def test_a_secret_among_the_hyperparameters() -> None:
    settings = settings_of()
    spec = spec_of(settings, replace(PAYLOAD, hyperparameters={"data.token": "ghp_" + "a1" * 18}))
    [found] = spec_problems.problems(spec, remote_of(settings), settings.trainer)
    assert found.startswith("hyperparameter data.token: looks like a secret")
    assert "ghp_" not in found


@pytest.mark.parametrize(
    ("overrides", "launch"),
    [
        (("trainer=ddp",), {}),
        (("trainer=ddp",), {"instance_count": 2}),
        (("trainer.devices=4",), {"instance_count": 2}),
        ((), {"instance_type": "ml.g5.xlarge", "instance_count": 3}),
        ((), {"instance_type": "ml.m5.xlarge", "volume_kms_key": "k"}),
        (("trainer=ddp_sim",), {"instance_type": "ml.m5.xlarge"}),
        ((), {"network_isolation": True, "image_uri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1"}),
        ((), {"network_isolation": True, "image_uri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pytorch-own:1"}),
        (("trainer=ddp",), {"sharded": True, "instance_count": 2}),
        ((), {"spot": True}),
        ((), {"ca_repository_arn": f"{ARN}/my-domain/my.repo_1"}),
        ((), {"framework_version": "2.8.0", "py_version": "py312"}),
        ((), {"keep_alive": 600}),
        ((), {"tags": {"tokens": "2048"}, "environment": {"TOKEN_ARN": "arn:aws:secretsmanager:x"}}),
        ((), {"instance_type": "ml.g7.2xlarge"}),
        ((), {"role": "arn:aws-us-gov:iam::123456789012:role/path/to/job"}),
        ((), {"ca_repository_arn": "arn:aws:codeartifact:eu-west-1:123456789012:repository/domain/repo"}),
    ],
)
def test_sound_jobs(overrides: tuple[str, ...], launch: Launch) -> None:
    assert problems(*overrides, **launch) == []


@pytest.mark.parametrize(
    ("overrides", "launch", "line"),
    [
        ((), {}, "launch.instance_type: ml.g5.12xlarge has 4 GPUs and trainer.devices=1 uses one"),
        (
            ("trainer.max_time=1",),
            {"instance_type": "ml.m5.xlarge", "max_run": 3600},
            "launch.max_run: 3600 s end the job before trainer.max_time=1 h would let it save and stop",
        ),
        (("trainer=cpu",), {"instance_type": "ml.g5.xlarge"}, "launch.instance_type: ml.g5.xlarge has GPUs, but"),
        ((), {"instance_type": "ml.m5.xlarge", "sharded": True}, "launch.sharded: has no effect on one instance"),
        (
            (),
            {"instance_type": "ml.g5.xlarge", "instance_count": 2, "sharded": True, "input_mode": "FastFile"},
            "launch.sharded: instances copy each other's files, which launch.input_mode=FastFile would stream",
        ),
        ((), {"instance_type": "ml.g5.xlarge", "volume_size": 99}, "launch.volume_size: has no effect"),
        (
            (),
            {"instance_type": "ml.m5.xlarge", "framework_version": "2.8.0", "py_version": "py312"},
            "launch.image_uri: PyTorch 2.8.0 gets no security patches since 2026-08-06",
        ),
        ((), {"instance_type": "ml.m5.xlarge", "debugger": True}, "launch.debugger: has no effect, for the SDK leaves"),
        (
            (),
            {"instance_type": "ml.m5.xlarge", "framework_version": "2.8.0", "image_uri": "x"},
            "launch.framework_version, launch.py_version: have no effect beside launch.image_uri",
        ),
        (
            (),
            {
                "instance_type": "ml.m5.xlarge",
                "network_isolation": True,
                "image_uri": "x",
                "ca_repository_arn": f"{ARN}/domain/repository",
            },
            "launch.ca_repository_arn: has no effect, for launch.network_isolation=true lets the job install nothing",
        ),
    ],
)
def test_warnings(overrides: tuple[str, ...], launch: Launch, line: str) -> None:
    [found] = warnings(*overrides, **launch)
    assert found.startswith(line)


def test_the_default_image_ages() -> None:
    cpu = {"instance_type": "ml.m5.xlarge"}
    assert warnings(**cpu, today=datetime.date(2027, 7, 20)) == []
    assert "gets no security patches since 2027-07-20" in warnings(**cpu, today=datetime.date(2027, 7, 21))[0]


def test_an_input_path_that_nothing_uses() -> None:
    settings = settings_of(input_path="s3://b-1/i", instance_type="ml.m5.xlarge")
    spec = spec_of(settings, replace(PAYLOAD, local=(), channels={"train": "s3://b-2/t/"}))
    [found] = spec_problems.warnings(spec, remote_of(settings), settings.trainer, TODAY)
    assert found.startswith("launch.input_path: has no effect")
