"""Looks at a tuner that answers badly; test_tuning follows one from its start to its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("botocore")

from botocore.exceptions import ClientError, EndpointConnectionError
from tests.launch.jobs import settings_of

from tabstep.errors import RetryError, UserError
from tabstep.launch.follow.follow_tuner import follow_tuner

BEST = {
    "TrainingJobName": "t-001",
    "TunedHyperParameters": {"optimizer.lr": "0.1", "model": '"resnet"'},
    "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "Validation Loss", "Value": 0.25},
}


def answer(status: str, **more: Any) -> dict[str, Any]:
    return {
        "HyperParameterTuningJobStatus": status,
        "TrainingJobStatusCounters": {"Completed": 1},
        "HyperParameterTuningJobConfig": {"ResourceLimits": {"MaxNumberOfTrainingJobs": 4}},
        "TrainingJobDefinition": {"StaticHyperParameters": {"seed": "3"}},
        **more,
    }


def follow(answers: list[Any], **changes: Any) -> tuple[float | None, list[str]]:
    left = list(answers)

    def describe(**_: Any) -> Any:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    client = SimpleNamespace(describe_hyper_parameter_tuning_job=describe)
    session = SimpleNamespace(client=lambda _: client, region_name="eu-west-1")
    said: list[str] = []
    settings = settings_of(download=False)
    value = follow_tuner("t", session, settings, sleep=lambda _: None, show=said.append, **changes)
    return value, said


LOST = EndpointConnectionError(endpoint_url="https://x")


def test_a_lost_connection_is_waited_for() -> None:
    value, said = follow([LOST, LOST, answer("InProgress"), answer("Completed", BestTrainingJob=BEST)])
    assert value == 0.25
    assert sum("try again; tuner t runs on" in line for line in said) == 1
    assert said[-1] == "again:       python train.py model=resnet optimizer.lr=0.1 seed=3"


def test_a_connection_that_stays_lost_ends_it_with_the_way_back() -> None:
    with pytest.raises(RetryError, match=r"(?s)AWS cannot be reached.*tuner t runs on"):
        follow([LOST])


def test_a_refusal_is_a_line() -> None:
    refused = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "DescribeX")
    with pytest.raises(UserError, match=r"launch\.attach: tuner t in eu-west-1: AWS refuses DescribeX: no: the policy"):
        follow([refused])


def test_an_expired_token_is_no_end_of_the_tuner() -> None:
    expired = ClientError({"Error": {"Code": "ExpiredTokenException", "Message": "expired"}}, "DescribeX")
    with pytest.raises(RetryError, match=r"(?s)sign in again.*launch\.tuner=true launch\.attach=t launch\.region="):
        follow([answer("InProgress"), expired])


def test_the_services_reason_is_told() -> None:
    with pytest.raises(UserError, match="tuner t: Failed: too bad"):
        follow([answer("Failed", FailureReason="too bad")])


def test_overrides_that_lie_in_the_source_are_named() -> None:
    static = {"packed_overrides": '"file:overrides-0123456789abcdef.json"'}
    _, said = follow(
        [answer("Completed", BestTrainingJob=BEST, TrainingJobDefinition={"StaticHyperParameters": static})]
    )
    assert said[-1].endswith("(and what is in overrides-0123456789abcdef.json of the job's source)")
