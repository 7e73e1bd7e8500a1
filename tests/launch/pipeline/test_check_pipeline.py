from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("sagemaker")

from tests.launch.jobs import BUNDLE, ROLE

from tabstep.errors import ProblemsError
from tabstep.launch import PytorchTrainingConfig, PyTorchTrainingStepBuilder, check_pipeline, prepare_job
from tabstep.launch.request import sdk

LIMIT = 1024 * 1024  # of a definition: "Quotas for Amazon SageMaker Pipelines"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    return sdk.session(sdk.offline_session("eu-west-1"), "my-bucket", pipeline=True)


def pipeline_of(session: Any, *names: str, name: str = "customers") -> Any:
    paths: dict[str, Any] = {key: f"s3://my-bucket/{key}" for key in ("input_path", "output_path", "checkpoint_path")}
    builder = PyTorchTrainingStepBuilder(
        PytorchTrainingConfig(**paths, hyperparameters=["seed=1"]), ROLE, session, upload=False
    )
    with sdk.quiet():
        from sagemaker.workflow.pipeline import Pipeline

        return Pipeline(name=name, steps=[builder.create_step(name=each) for each in names], sagemaker_session=session)


def test_a_pipeline_within_the_limits_passes(session: Any) -> None:
    check_pipeline(pipeline_of(session, "Train", "Train_again-2"))


class Large:
    """A pipeline whose definition is of any size."""

    name = "large"

    def __init__(self, size: int) -> None:
        steps = [{"Name": f"Step{i}", "Type": "Training", "Arguments": {"x": "y" * i}} for i in range(5)]
        text = json.dumps({"Version": "2020-12-01", "Steps": steps})
        self.text = text.replace('"2020-12-01"', json.dumps("2020-12-01" + " " * (size - len(text))))

    def definition(self) -> str:
        return self.text


def test_a_definition_has_a_limit() -> None:
    check_pipeline(Large(LIMIT))
    with pytest.raises(ProblemsError) as caught:
        check_pipeline(Large(LIMIT + 1))
    [line] = caught.value.problems
    assert line.startswith("pipeline: its definition has 1,048,577 characters, at most 1,048,576 are allowed: ")
    assert "of its 5 steps; the largest: Step4 (" in line


def test_every_wrong_name_is_found(session: Any) -> None:
    with pytest.raises(ProblemsError) as caught:
        check_pipeline(pipeline_of(session, "my step", "Train", "x" * 65, name="my_pipeline"))
    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "pipeline",
        "step 'my step'",
        f"step '{'x' * 65}'",
    ]
