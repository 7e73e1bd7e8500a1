from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sagemaker")

from tests.launch.jobs import BUNDLE
from tests.launch.pipeline.test_pipeline import builder, definition, place

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.container.hyperparameters import unpack
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.launch import prepare_job
from tabstep.launch.request import sdk

sdk.sagemaker()
with sdk.quiet():
    from sagemaker.workflow.parameters import ParameterString
    from sagemaker.workflow.steps import CacheConfig, TuningStep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sagemaker", "ignore::DeprecationWarning:sagemaker")
LR = "optimizer.lr=tag(log, interval(1e-4,1e-2))"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    return sdk.session(sdk.offline_session("eu-west-1"), "my-bucket", pipeline=True)


def ranges(arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = arguments["HyperParameterTuningJobConfig"]["ParameterRanges"].values()
    return {each["Name"]: each for kind in found for each in kind}


def test_an_option_of_ranges(session: Any) -> None:
    made = builder(session).create_tuning_step("resnet", name="Tune", sweeper={"n_trials": 6, "pruner": "hyperband"})
    assert isinstance(made, TuningStep)
    found = definition(session, made)["Tune"]
    assert found["Type"] == "Tuning"
    config = found["Arguments"]["HyperParameterTuningJobConfig"]
    assert config["Strategy"] == "Hyperband"
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 6, "MaxParallelTrainingJobs": 4}
    assert {"model.width", "model.expansion", "optimizer.lr"} <= ranges(found["Arguments"]).keys()
    job = found["Arguments"]["TrainingJobDefinition"]
    assert unpack(job["StaticHyperParameters"])[-1] == "model=resnet"
    values = {"model.expansion": '"4.0"', "optimizer.lr": "0.004"}
    overrides = unpack({**job["StaticHyperParameters"], **values})
    settings = parse(composed(overrides, [config_dir()]))
    assert (settings.model.expansion, settings.optimizer.lr) == (4.0, 0.004)  # type: ignore[union-attr]
    assert settings.schema.label == "target"


def test_ranges_of_ones_own(session: Any) -> None:
    made = builder(session).create_tuning_step([LR, "model=mlp,resnet"], max_parallel=2, sweeper={"pruner": "none"})
    found = definition(session, made)[made.name]["Arguments"]
    assert ranges(found) == {
        "optimizer.lr": {
            "Name": "optimizer.lr",
            "MinValue": "0.0001",
            "MaxValue": "0.01",
            "ScalingType": "Logarithmic",
        },
        "model": {"Name": "model", "Values": ['"mlp"', '"resnet"']},
    }
    config = found["HyperParameterTuningJobConfig"]
    assert (config["Strategy"], config["TrainingJobEarlyStoppingType"]) == ("Bayesian", "Off")
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 20, "MaxParallelTrainingJobs": 2}
    # what a training step has, its tuner has
    job = found["TrainingJobDefinition"]
    training = builder(session).create_step(name="Train")
    alone = definition(session, training)["Train"]["Arguments"]
    for key in ("InputDataConfig", "OutputDataConfig", "StoppingCondition", "RoleArn"):
        assert job[key] == alone[key], key
    assert [*place({"Arguments": alone})[:-1], made.name] == place({"Arguments": found})
    own = {"sagemaker_estimator_class_name", "sagemaker_estimator_module", "sagemaker_job_name"}
    assert {k: v for k, v in job["StaticHyperParameters"].items() if k not in own} == alone["HyperParameters"]


def test_a_cached_step_has_no_time_in_it_and_a_stable_name(session: Any) -> None:
    cache = CacheConfig(enable_caching=True, expire_after="P30D")
    first, second = (
        definition(session, builder(session).create_tuning_step("mlp", cache_config=cache)) for _ in range(2)
    )
    assert first == second
    [found] = first.values()
    assert found["CacheConfig"] == {"Enabled": True, "ExpireAfter": "P30D"}
    assert "HyperParameterTuningJobName" not in found["Arguments"]
    other = builder(session).create_tuning_step("mlp", sweeper={"n_trials": 5})
    assert other.name not in first


def test_the_best_job_is_registered_with_its_scores(session: Any) -> None:
    output = ParameterString("Output", default_value="s3://my-bucket/out")
    for path, above in (("s3://my-bucket/model-artifacts/", "s3://my-bucket/model-artifacts"), (output, output.expr)):
        made = builder(session, output_path=path)
        tuned = made.create_tuning_step([LR], name="Tune")
        registration = made.create_registration_step(tuned, "models")
        steps = definition(session, tuned, registration, parameters=[output])
        [found] = [each["Arguments"] for each in steps.values() if each["Type"] == "RegisterModel"]
        best = {"Get": "Steps.Tune.BestTrainingJob.TrainingJobName"}
        [container] = found["InferenceSpecification"]["Containers"]
        assert container["ModelDataUrl"] == {"Std:Join": {"On": "/", "Values": [above, best, "output/model.tar.gz"]}}
        uri = found["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]["Std:Join"]["Values"]
        assert uri[-2:] == [best, "statistics.json"]


@pytest.mark.parametrize(
    ("search", "sweeper", "line"),
    [
        ("nope", {}, "hparams_search: no such option, got 'nope': choose from: mlp"),
        ([LR], {"n_trial": 3}, "hydra.sweeper.n_trial: no such key"),
        ([LR], {"sampler": "cmaes"}, "hydra.sweeper.sampler: a tuner has no cmaes"),
        ([LR], {"n_trials": 0}, "hydra.sweeper.n_trials: expected a whole number >= 1, got 0"),
        (["optimizer.lrr=1,2"], {}, "optimizer.lrr: no such key"),
        (["optimizer.lr=interval(-1,1)"], {}, "optimizer.lr: expected a number > 0"),
        (["model=mlp"], {}, "hydra.sweeper.params: there is nothing to tune"),
        (["model=mlp,resnet", "model.expansion=1.0,2.0"], {}, "model.expansion: no such key"),
        (["schema.drop=[a],[b]"], {}, "schema.drop=[a]: a tuner gives plain words and numbers"),
    ],
)
def test_what_is_wrong_is_found_when_the_step_is_made(
    session: Any, search: Any, sweeper: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        builder(session).create_tuning_step(search, sweeper=sweeper)
    assert str(caught.value).startswith(line), caught.value
