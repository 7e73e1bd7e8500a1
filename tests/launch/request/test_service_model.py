from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("botocore")

from tabstep.launch.request import service_model

REQUEST: dict[str, Any] = {
    "TrainingJobName": "job-1",
    "RoleArn": "arn:aws:iam::123456789012:role/job",
    "AlgorithmSpecification": {
        "TrainingImage": "image",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "Loss", "Regex": "x"}],
    },
    "OutputDataConfig": {"S3OutputPath": "s3://b/o"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 1},
    "HyperParameters": {"a": "b"},
    "Environment": {"A": "b"},
    "InputDataConfig": [
        {
            "ChannelName": "train",
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/i"}},
        }
    ],
    "Tags": [{"Key": "größe: 1/2", "Value": "ä=1"}],
}
LONG = "x" * 3000
# Each limit that SageMaker's users ran into, the part of the request that breaks it, and what a person reads.
BROKEN: list[tuple[tuple[Any, ...], Any, str]] = [
    (("HyperParameters",), {str(i): "" for i in range(101)}, "hyperparameter: 101 entries, at most 100 are allowed"),
    (("HyperParameters", "k" * 257), "", "hyperparameter " + "k" * 257 + ": 257 characters, at most 256 are allowed"),
    (("HyperParameters", "a"), "x" * 2501, "hyperparameter a: 2501 characters, at most 2500 are allowed"),
    (("HyperParameters", "a"), "x\ny", "hyperparameter a: 'x\\ny' does not match the service's pattern .*"),
    (("Environment",), {f"A{i}": "" for i in range(101)}, "launch.environment: 101 entries, at most 100 are allowed"),
    (("Environment", "A"), "x" * 513, "launch.environment.A: 513 characters, at most 512 are allowed"),
    (("Environment", "1A"), "", "launch.environment.1A: '1A' does not match the service's pattern"),
    (
        ("AlgorithmSpecification", "MetricDefinitions"),
        [{"Name": str(i), "Regex": "x"} for i in range(41)],
        "AlgorithmSpecification.MetricDefinitions: 41 entries, at most 40 are allowed",
    ),
    (
        ("AlgorithmSpecification", "MetricDefinitions", 0, "Regex"),
        "x" * 501,
        "AlgorithmSpecification.MetricDefinitions[0].Regex: 501 characters, at most 500 are allowed",
    ),
    (("TrainingJobName",), "x" * 64, "launch.job_name: 64 characters, at most 63 are allowed"),
    (("TrainingJobName",), "a_b", "launch.job_name: 'a_b' does not match the service's pattern"),
    (("TrainingJobName",), "-a", "launch.job_name: '-a' does not match the service's pattern"),
    (("RoleArn",), "me", "launch.role: 2 characters, at least 20 are needed"),
    (("ResourceConfig", "InstanceCount"), -1, "launch.instance_count: -1, at least 0 are needed"),
    (("ResourceConfig", "KeepAlivePeriodInSeconds"), 99999, "launch.keep_alive: 99999, at most 21600 are allowed"),
    (("StoppingCondition", "MaxRuntimeInSeconds"), 0, "launch.max_run: 0, at least 1 are needed"),
    (("VpcConfig",), {"Subnets": ["s"] * 17, "SecurityGroupIds": ["g"]}, "launch.subnets: 17 entries, at most 16"),
    (("VpcConfig",), {"Subnets": ["s"]}, "launch.security_group_ids: is missing"),
    (("InputDataConfig", 0, "ChannelName"), "a b", "launch.input_path[0].ChannelName: 'a b' does not match"),
    (
        ("InputDataConfig", 0, "InputMode"),
        "Fast",
        "launch.input_path[0].InputMode: 'Fast' is none of Pipe, File, FastFile",
    ),
    (("Tags",), [{"Key": str(i), "Value": ""} for i in range(51)], "launch.tags: 51 entries, at most 50 are allowed"),
    (("Tags",), [{"Key": "a", "Value": "b;c"}], "launch.tags[0].Value: 'b;c' does not match the service's pattern"),
    (("Tags",), [{"Key": "a", "Value": LONG}], "launch.tags[0].Value: 3000 characters, at most 256 are allowed"),
    (("Nonsense",), 1, "Nonsense: the service knows no such field: "),
    (("OutputDataConfig",), {}, "launch.output_path: is missing"),
    (("OutputDataConfig",), "s3://b/out", "OutputDataConfig: expected fields by name, got 's3://b/out'"),
    (("StoppingCondition", "MaxRuntimeInSeconds"), "60", "launch.max_run: expected a whole number, got '60'"),
    (("Tags",), {"a": "b"}, "launch.tags: expected a list, got {'a': 'b'}"),
    (("EnableManagedSpotTraining",), 1, "launch.spot: expected true or false, got 1"),
]


def broken(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    request = copy.deepcopy(REQUEST)
    place: Any = request
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return request


def test_a_sound_request() -> None:
    assert service_model.violations(REQUEST) == []


@pytest.mark.parametrize(("path", "value", "line"), BROKEN, ids=[line[:50] for _, _, line in BROKEN])
def test_each_limit_is_met_before_the_service(path: tuple[Any, ...], value: Any, line: str) -> None:
    assert any(found.startswith(line) for found in service_model.violations(broken(path, value))), (
        service_model.violations(broken(path, value))
    )


def test_all_violations_at_once() -> None:
    request = broken(("TrainingJobName",), "a_b")
    request["HyperParameters"] = {"a": "x" * 2501}
    assert len(service_model.violations(request)) == 2


def test_twenty_channels() -> None:
    channel = REQUEST["InputDataConfig"][0]
    request = broken(("InputDataConfig",), [{**channel, "ChannelName": f"c{i}"} for i in range(21)])
    assert service_model.violations(request) == ["launch.input_path: 21 entries, at most 20 are allowed"]


def reachable(name: str, seen: set[str]) -> set[str]:
    if name in seen:
        return seen
    seen.add(name)
    shape = service_model.shapes()[name]
    inner = [*shape.get("members", {}).values(), *(shape[key] for key in ("member", "key", "value") if key in shape)]
    for each in inner:
        reachable(each["shape"], seen)
    return seen


def test_nearly_every_pattern_of_the_request_is_one_that_python_reads() -> None:
    names = reachable("CreateTrainingJobRequest", set())
    patterns = {name: shape["pattern"] for name in names if "pattern" in (shape := service_model.shapes()[name])}
    assert len(patterns) > 30
    assert {name for name, pattern in patterns.items() if service_model.readable(pattern) is None} == {
        "TrainingRepositoryCredentialsProviderArn"
    }


def test_instance_types_are_the_models() -> None:
    assert {"ml.g5.12xlarge", "ml.m5.xlarge"} <= set(service_model.instance_types())
