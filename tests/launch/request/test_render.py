from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.launch.jobs import PAYLOAD, remote_of, settings_of, spec_of

pytest.importorskip("sagemaker")

from dataclasses import replace

from tabstep.launch.request import render, sdk, service_model, spec_problems

GOLDEN = Path(__file__).with_name("golden")
VPC = {
    "subnets": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "security_group_ids": ["sg-0123456789abcdef0"],
    "volume_kms_key": "arn:aws:kms:eu-west-1:123456789012:key/volume",
    "output_kms_key": "arn:aws:kms:eu-west-1:123456789012:key/output",
    "encrypt_inter_container": True,
    "instance_type": "ml.p3.8xlarge",
}
JOBS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "default": ((), {}),
    "spot": ((), {"spot": True, "max_run": 3600, "max_wait": 7200, "instance_type": "ml.g5.xlarge"}),
    "vpc_kms": ((), VPC),
    "two_instances": (("trainer=ddp",), {"instance_count": 2, "instance_type": "ml.g5.12xlarge"}),
    "sharded": ((), {"sharded": True, "entry_point": "my_script.py"}),
    "cpu": ((), {"instance_type": "ml.m5.xlarge", "profiler": False, "input_mode": "FastFile", "keep_alive": 600}),
    "sdk_image": ((), {"framework_version": "2.8.0", "py_version": "py312"}),
}


def same_as_golden(name: str, data: Any) -> None:
    """Compare with a file; TABSTEP_GOLDEN=write writes it, for a diff to be read by a person."""
    file = GOLDEN / f"{name}.json"
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get("TABSTEP_GOLDEN") == "write":
        file.write_text(text, encoding="utf-8")
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(text)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, no credentials, no configuration."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection was tried: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", JOBS)
def test_request_is_the_golden_one(name: str) -> None:
    overrides, launch = JOBS[name]
    settings = settings_of(*overrides, **launch)
    spec = spec_of(settings)
    request = render.request(spec)
    assert spec_problems.problems(spec, remote_of(settings), settings.trainer) == []
    assert service_model.violations(request) == []
    same_as_golden(name, request)


def test_request_has_only_what_was_asked_for() -> None:
    request = render.request(spec_of(settings_of()))
    for absent in (
        "VpcConfig",
        "DebugHookConfig",
        "ProfilerRuleConfigurations",
        "EnableManagedSpotTraining",
        "Environment",
    ):
        assert absent not in request
    assert request["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert request["AlgorithmSpecification"]["EnableSageMakerMetricsTimeSeries"] is True
    names = [each["Name"] for each in request["AlgorithmSpecification"]["MetricDefinitions"]]
    assert names[0] == "Train Loss"
    assert {"Validation Loss", "Validation F1 Score", "Validation AUC ROC"} <= set(names)


def test_the_debuggers_hook_is_left_out_of_a_job_with_checkpoints() -> None:
    """By the SDK, whatever is asked for: ``validate`` warns of it."""
    assert "DebugHookConfig" not in render.request(spec_of(settings_of(debugger=True)))
    assert "DebugHookConfig" in render.request(spec_of(settings_of(debugger=True, checkpoint_path="none")))


def test_torchrun_is_asked_for_by_the_toolkits_keys() -> None:
    parameters = render.request(spec_of(settings_of("trainer=ddp", instance_count=2)))["HyperParameters"]
    assert parameters["sagemaker_torch_distributed_enabled"] == "true"
    assert parameters["sagemaker_instance_type"] == '"ml.g5.12xlarge"'


def test_hyperparameters_are_json_texts() -> None:
    values = {"a": "0.0003", "b": "3e-4", "c": "resnet", "d": "true", "e": "007", "f": "NaN", "g": '"x"', "h": "12"}
    spec = spec_of(settings_of(), replace(PAYLOAD, hyperparameters=values))
    sent = {name: text for name, text in render.request(spec)["HyperParameters"].items() if len(name) == 1}
    assert sent == {
        "a": "0.0003",
        "b": '"3e-4"',
        "c": '"resnet"',
        "d": '"true"',
        "e": '"007"',
        "f": '"NaN"',
        "g": '"\\"x\\""',
        "h": "12",
    }


def test_a_job_without_channels() -> None:
    spec = spec_of(settings_of(), replace(PAYLOAD, local=(), data_digest=""))
    assert spec.channels == {}
    assert "InputDataConfig" not in render.request(spec)


def test_telemetry_is_off_and_the_hook_for_exceptions_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import requests

    monkeypatch.setattr(requests, "get", lambda *_, **__: pytest.fail("telemetry was sent"))
    hook = sys.excepthook
    render.request(spec_of(settings_of()))
    assert sys.excepthook is hook
    assert sdk.session(sdk.offline_session("eu-west-1")).sagemaker_config["SageMaker"]["PythonSDK"]["Modules"][
        "TelemetryOptOut"
    ]


def test_an_unknown_profile_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from tabstep.errors import UserError

    monkeypatch.setenv("AWS_PROFILE", "nope")
    with pytest.raises(UserError, match=r"AWS configuration of this machine: .*\(nope\)"):
        sdk.configured_region()
