from __future__ import annotations

from typing import Any

import pytest
from tests.launch.jobs import remote_of, settings_of, spec_of

pytest.importorskip("sagemaker")

from tabstep.config.compose import composed
from tabstep.config.overrides import check_overrides
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError
from tabstep.launch.request import cost, render, spec_problems
from tabstep.launch.request.checked_request import checked_request, checked_tuner_request

PLAN = "arn:aws:sagemaker:eu-west-1:123456789012:training-plan/plan-with-a-name"
GROUPS = [
    {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "InstanceGroupName": "readers"},
    {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "InstanceGroupName": "trainers"},
]
# A field of each kind that has no key: what it asks for, as the service's reference has it.
FIELDS: dict[str, Any] = {
    "ResourceConfig": {"TrainingPlanArn": PLAN},
    "RetryStrategy": {"MaximumRetryAttempts": 3},
    "RemoteDebugConfig": {"EnableRemoteDebug": True},
    "InfraCheckConfig": {"EnableInfraCheck": True},
    "SessionChainingConfig": {"EnableSessionTagChaining": True},
    "ExperimentConfig": {"ExperimentName": "e", "TrialName": "t"},
    "TensorBoardOutputConfig": {"S3OutputPath": "s3://b/tensorboard"},
    "StoppingCondition": {"MaxPendingTimeInSeconds": 7200},
    "OutputDataConfig": {"CompressionType": "NONE"},
    "AlgorithmSpecification": {"TrainingImageConfig": {"TrainingRepositoryAccessMode": "Vpc"}},
}


def sent(**request: Any) -> dict[str, Any]:
    return checked_request(spec_of(settings_of(request=request)))


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_without_a_key_reaches_the_request(field: str) -> None:
    before, found = sent(), sent(**{field: FIELDS[field]})
    assert FIELDS[field].items() <= found[field].items()
    assert {**found, field: None} == {**before, field: None}
    assert before.get(field, {}).items() <= found[field].items(), "what was there stays"


def test_instance_groups_stand_in_the_place_of_one_type() -> None:
    resources = sent(ResourceConfig={"InstanceGroups": GROUPS})["ResourceConfig"]
    assert resources == {"VolumeSizeInGB": 30, "InstanceGroups": GROUPS}
    spec = spec_of(settings_of(request={"ResourceConfig": {"InstanceGroups": GROUPS}}, max_run=3600))
    prices = {"eu-west-1": {"ml.m5.xlarge": 0.2, "ml.g5.xlarge": 1.5}}
    assert cost.ceiling(spec, prices).usd == pytest.approx(0.2 + 2 * 1.5)
    assert cost.ceiling(spec, {"eu-west-1": {"ml.g5.xlarge": 1.5}}).usd is None
    ended = {"ResourceConfig": {"InstanceGroups": GROUPS}, "BillableTimeInSeconds": 1800}
    assert cost.billed(ended, "eu-west-1", prices).usd == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (
            {"RetryStrategy": {"MaximumRetryAttempts": 99}},
            "launch.request.RetryStrategy.MaximumRetryAttempts: 99, at most",
        ),
        (
            {"RetryStrategy": {"MaximumRetryAttempts": "3"}},
            "launch.request.RetryStrategy.MaximumRetryAttempts: expected a",
        ),
        ({"RetryStrategy": {}}, "launch.request.RetryStrategy.MaximumRetryAttempts: is missing"),
        ({"RetryStrategy": 3}, "launch.request.RetryStrategy: expected fields by name, got 3"),
        (
            {"RetriStrategy": {}},
            "launch.request.RetriStrategy: the service knows no such field: did you mean 'RetryStr",
        ),
        ({"ResourceConfig": {"TrainingPlanArn": "x"}}, "launch.request.ResourceConfig.TrainingPlanArn: 1 characters"),
    ],
)
def test_a_wrong_field_is_named_as_it_was_given(request_: dict[str, Any], line: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        sent(**request_)
    assert caught.value.problems[0].startswith(line), caught.value


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60}}, "launch.max_run"),
        ({"ResourceConfig": {"InstanceCount": 9}}, "launch.instance_count"),
        ({"EnableManagedSpotTraining": True}, "launch.spot"),
        ({"HyperParameters": {"seed": "1"}}, "the override"),
        ({"RoleArn": "x"}, "launch.role"),
    ],
)
def test_a_field_with_a_key_is_set_by_its_key(request_: dict[str, Any], key: str) -> None:
    settings = settings_of(request=request_)
    found = spec_problems.problems(spec_of(settings), remote_of(settings), settings.trainer)
    assert any(line.startswith("launch.request.") and line.endswith(f": set {key}") for line in found), found


def test_a_tuners_jobs_have_what_a_tuner_knows() -> None:
    from tests.launch.request.test_tuner_spec import job_of, tuner_of

    spec = tuner_of(job=job_of(request={"RetryStrategy": {"MaximumRetryAttempts": 3}}))
    assert checked_tuner_request(spec)["TrainingJobDefinition"]["RetryStrategy"] == {"MaximumRetryAttempts": 3}
    for request in ({"ResourceConfig": {"TrainingPlanArn": PLAN}}, {"MlflowConfig": {"MlflowResourceArn": "x"}}):
        with pytest.raises(ProblemsError, match=r"launch\.request\."):
            checked_tuner_request(tuner_of(job=job_of(request=request)))


def test_it_is_set_on_the_command_line_and_in_an_option() -> None:
    text = "+launch.request.RetryStrategy.MaximumRetryAttempts=3"
    assert check_overrides([text], [config_dir()])[0] == []
    settings = parse(composed(["launch=dry_run", text], [config_dir()]))
    assert remote_of(settings).request == {"RetryStrategy": {"MaximumRetryAttempts": 3}}
    assert render.request(spec_of(settings_of(text)))["RetryStrategy"] == {"MaximumRetryAttempts": 3}
