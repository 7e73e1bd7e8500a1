from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sagemaker")

import boto3
from tests.launch.conftest import BUCKET, REGION
from tests.launch.jobs import BUNDLE, ROLE
from tests.launch.request.test_render import same_as_golden

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.container.hyperparameters import unpack
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.launch import ModelHyperparameters, PytorchTrainingConfig, PyTorchTrainingStepBuilder, prepare_job
from tabstep.launch.request import sdk

sdk.sagemaker()
with sdk.quiet():
    from sagemaker.processing import ProcessingOutput, ScriptProcessor
    from sagemaker.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
    from sagemaker.workflow.pipeline import Pipeline
    from sagemaker.workflow.retry import SageMakerJobExceptionTypeEnum, SageMakerJobStepRetryPolicy
    from sagemaker.workflow.steps import CacheConfig, ProcessingStep, TrainingStep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sagemaker", "ignore::DeprecationWarning:sagemaker")

HYPERPARAMETERS: dict[str, Any] = {
    "id_name": "customer_id",
    "label_name": "target",
    "full_field_list": ["customer_id", "target", "feature1", "feature2", "feature3"],
    "tab_field_list": ["feature1", "feature2"],
    "cat_field_list": ["feature3"],
}
PATHS: dict[str, Any] = {
    "input_path": "s3://my-bucket/preprocessed-data",
    "output_path": "s3://my-bucket/model-artifacts/",
    "checkpoint_path": "s3://my-bucket/checkpoints/",
}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A session that never asks anyone; bundles do not depend on the checkout."""
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    return sdk.session(sdk.offline_session("eu-west-1"), "my-bucket", pipeline=True)


@pytest.fixture
def preprocessing_step(session: Any) -> Any:
    with sdk.quiet():
        processor = ScriptProcessor(
            image_uri="image", command=["python3"], role=ROLE, instance_count=1, instance_type="ml.m5.large",
            sagemaker_session=session,
        )  # fmt: skip
        output = ProcessingOutput(output_name="data", source="/opt/ml/processing/out", destination="s3://my-bucket/pre")
        return ProcessingStep(
            name="Preprocess", step_args=processor.run(code="s3://my-bucket/pre.py", outputs=[output])
        )


def builder(session: Any, **changes: Any) -> PyTorchTrainingStepBuilder:
    values = {**PATHS, "hyperparameters": ModelHyperparameters(**HYPERPARAMETERS), **changes}
    return PyTorchTrainingStepBuilder(PytorchTrainingConfig(**values), ROLE, session, upload=False)


def definition(session: Any, *steps: Any, parameters: Any = ()) -> dict[str, Any]:
    with sdk.quiet():
        pipeline = Pipeline(name="p", steps=list(steps), parameters=list(parameters), sagemaker_session=session)
        found: dict[str, Any] = json.loads(pipeline.definition())
    return {each["Name"]: each for each in found["Steps"]}


def test_the_example_runs_as_it_stands(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the import lines and a role; the bundle is sent, and the pipeline is made by the service's own calls."""
    role = ROLE
    boto3.client("s3").create_bucket(Bucket="my-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    session = sdk.session(sdk.boto_session(REGION), BUCKET, pipeline=True)
    with sdk.quiet():
        processor = ScriptProcessor(
            image_uri="image", command=["python3"], role=role, instance_count=1, instance_type="ml.m5.large",
            sagemaker_session=session,
        )  # fmt: skip
        preprocessing_step = ProcessingStep(name="Preprocess", step_args=processor.run(code="s3://my-bucket/pre.py"))

    hyperparams = ModelHyperparameters(
        id_name="customer_id", label_name="target",
        full_field_list=["customer_id", "target", "feature1", "feature2", "feature3"],
        tab_field_list=["feature1", "feature2"], cat_field_list=["feature3"],
        learning_rate=0.001, batch_size=64, epochs=10)  # fmt: skip
    config = PytorchTrainingConfig(
        input_path="s3://my-bucket/preprocessed-data/", output_path="s3://my-bucket/model-artifacts/",
        checkpoint_path="s3://my-bucket/checkpoints/", training_instance_type="ml.g5.12xlarge",
        training_instance_count=1, hyperparameters=hyperparams)  # fmt: skip
    training_step = PyTorchTrainingStepBuilder(config=config, role=role).create_step(dependencies=[preprocessing_step])

    assert isinstance(training_step, TrainingStep)
    with sdk.quiet():
        pipeline = Pipeline(name="Train", steps=[preprocessing_step, training_step], sagemaker_session=session)
        pipeline.create(role)
        described = json.loads(pipeline.describe()["PipelineDefinition"])
    trained = described["Steps"][1]
    assert trained["DependsOn"] == ["Preprocess"]
    uri = json.loads(trained["Arguments"]["HyperParameters"]["sagemaker_submit_directory"])
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    assert bucket == "my-bucket"
    assert boto3.client("s3").get_object(Bucket=bucket, Key=key)["ContentLength"] > 1000


def test_pipeline_definition_is_the_golden_one(session: Any, preprocessing_step: Any) -> None:
    made = builder(session, input_path="s3://my-bucket/preprocessed-data/")
    training_step = made.create_step(dependencies=[preprocessing_step], name="Train")
    registration = made.create_registration_step(training_step, "models", approval_status="Approved")
    found = definition(session, preprocessing_step, training_step, registration)
    same_as_golden("pipeline", found)


def test_paths_of_an_earlier_step_and_of_parameters(session: Any, preprocessing_step: Any) -> None:
    output = ParameterString("Output", default_value="s3://my-bucket/out")
    kind, count = ParameterString("Type", default_value="ml.g5.xlarge"), ParameterInteger("Count", default_value=1)
    source = preprocessing_step.properties.ProcessingOutputConfig.Outputs["data"].S3Output.S3Uri
    made = builder(
        session, input_path=source, output_path=output, training_instance_type=kind, training_instance_count=count
    )
    found = definition(
        session, preprocessing_step, made.create_step(name="Train"), parameters=[output, kind, count]
    )["Train"]["Arguments"]  # fmt: skip
    uri = found["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    place = {"Get": "Steps.Preprocess.ProcessingOutputConfig.Outputs['data'].S3Output.S3Uri"}
    assert uri == {"Std:Join": {"On": "/", "Values": [place, "train/"]}}
    assert found["OutputDataConfig"]["S3OutputPath"] == {"Get": "Parameters.Output"}
    assert found["ProfilerConfig"]["S3OutputPath"] == {"Get": "Parameters.Output"}
    assert found["ResourceConfig"]["InstanceType"] == {"Get": "Parameters.Type"}
    assert found["ResourceConfig"]["InstanceCount"] == {"Get": "Parameters.Count"}


def test_each_split_at_a_place_of_its_own(session: Any, preprocessing_step: Any) -> None:
    source = preprocessing_step.properties.ProcessingOutputConfig.Outputs["data"].S3Output.S3Uri
    made = builder(session, input_path={"train": source, "val": "s3://my-bucket/val/"})
    found = definition(session, preprocessing_step, made.create_step(name="Train"))["Train"]["Arguments"]
    uris = {each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in found["InputDataConfig"]}
    assert list(uris) == ["train", "val"]
    assert uris["val"] == "s3://my-bucket/val/"
    assert uris["train"]["Get"].startswith("Steps.Preprocess.")


def place(step: Mapping[str, Any]) -> list[Any]:
    """The parts of the address of a step's checkpoints."""
    arguments = step["Arguments"].get("TrainingJobDefinition", step["Arguments"])
    parts: list[Any] = arguments["CheckpointConfig"]["S3Uri"]["Std:Join"]["Values"]
    return parts


def test_checkpoints_are_of_one_execution_unless_the_step_is_cached(session: Any) -> None:
    cache = CacheConfig(enable_caching=True, expire_after="P30D")
    made = builder(session)
    plain, cached, named = (
        made.create_step(),
        made.create_step(cache_config=cache),
        made.create_step(name="Train", cache_config=cache),
    )
    found = definition(session, plain, cached, named)
    base, digest = "s3://my-bucket/checkpoints", plain.name.rpartition("-")[2]
    assert place(found[plain.name]) == [base, {"Get": "Execution.PipelineExecutionId"}, plain.name]
    assert place(found[cached.name]) == [base, {"Get": "Execution.PipelineName"}, cached.name]
    # a step that keeps its name while its configuration changes must not go on from what it was
    assert place(found["Train"]) == [base, {"Get": "Execution.PipelineName"}, f"Train-{digest}"]
    assert found[cached.name]["CacheConfig"] == {"Enabled": True, "ExpireAfter": "P30D"}


@pytest.mark.parametrize(
    "cache", [None, pytest.param(CacheConfig(enable_caching=True, expire_after="P30D"), marks=pytest.mark.slow)]
)
def test_no_two_steps_share_a_place_for_checkpoints_and_scores(session: Any, cache: Any) -> None:
    """An equal second step would be given the first one's model, and another one would overwrite its scores."""
    one, other = builder(session), builder(session, hyperparameters=["schema.label=y", "seed=2"])
    steps = [
        one.create_step(cache_config=cache),
        one.create_step(cache_config=cache),
        other.create_step(cache_config=cache),
        one.create_tuning_step(["seed=1,2"], cache_config=cache),
        one.create_tuning_step(["seed=1,2"], cache_config=cache),
    ]
    registered = [made.create_registration_step(step, "m") for made, step in ((one, steps[0]), (one, steps[1]))]
    found = definition(session, *steps, *registered)
    places = [str(place(found[step.name])) for step in steps]
    assert len(set(places)) == len(steps)
    scores = [
        each["Arguments"]["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]["Std:Join"]["Values"]
        for each in found.values()
        if each["Type"] == "RegisterModel"
    ]
    assert scores == [[*place(found[step.name]), "statistics.json"] for step in steps[:2]]


def test_a_cached_step_has_no_time_and_no_name_of_a_job_in_it(session: Any) -> None:
    cache = CacheConfig(enable_caching=True, expire_after="P30D")
    first, second = (definition(session, builder(session).create_step(cache_config=cache)) for _ in range(2))
    assert first == second
    assert "sagemaker_job_name" not in str(first)
    assert "2000" not in str(first)


def test_names_of_steps_are_unique_and_stable(session: Any) -> None:
    made = builder(session)
    names = [made.create_step().name, made.create_step().name, builder(session, volume_size=31).create_step().name]
    assert names[1] == f"{names[0]}-2"
    assert len(set(names)) == 3
    assert builder(session).create_step().name == names[0]


def test_retry_policies(session: Any) -> None:
    policy = SageMakerJobStepRetryPolicy(
        exception_types=[SageMakerJobExceptionTypeEnum.CAPACITY_ERROR], max_attempts=3, interval_seconds=60
    )
    made = builder(session).create_step(name="Train", retry_policies=[policy])
    [found] = definition(session, made)["Train"]["RetryPolicies"]
    assert (found["ExceptionType"], found["MaxAttempts"]) == (["SageMaker.CAPACITY_ERROR"], 3)


def test_names_and_paths_of_the_users_own(session: Any) -> None:
    """No path is needed; all lie in the bucket, without a date, which a cache would never find again."""
    config = PytorchTrainingConfig(
        hyperparameters=ModelHyperparameters(**HYPERPARAMETERS),
        training_volume_size=50,
        training_entry_point="mine.py",
        settings={"bucket": "my-bucket"},
    )
    step = PyTorchTrainingStepBuilder(config, ROLE, session, upload=False).create_step(name="Train")
    found = definition(session, step)["Train"]["Arguments"]
    assert found["ResourceConfig"]["VolumeSizeInGB"] == 50
    assert found["HyperParameters"]["sagemaker_program"] == '"mine.py"'
    uris = [each["DataSource"]["S3DataSource"]["S3Uri"] for each in found["InputDataConfig"]]
    assert uris == [f"s3://my-bucket/tabstep/input/{split}/" for split in ("train", "val", "test")]
    assert found["OutputDataConfig"]["S3OutputPath"] == "s3://my-bucket/tabstep/output"
    assert place({"Arguments": found})[0] == "s3://my-bucket/tabstep/checkpoints"
    assert PytorchTrainingConfig(hyperparameters="example", volume_size=40, training_volume_size=40).volume_size == 40
    with pytest.raises(ProblemsError, match="volume_size, training_volume_size: are two names of one thing"):
        PytorchTrainingConfig(hyperparameters="example", volume_size=40, training_volume_size=50)


def test_a_path_that_is_known_later_lends_its_bucket_to_nothing(session: Any) -> None:
    made = builder(session, output_path=ParameterString("Out"), input_path=None, settings={"bucket": None})
    step = made.create_step(name="Train")
    uri = definition(session, step, parameters=[ParameterString("Out")])["Train"]["Arguments"]["HyperParameters"]
    assert uri["sagemaker_submit_directory"].startswith('"s3://sagemaker-eu-west-1-123456789012/tabstep/bundles/')


def test_variables_of_the_pipeline_as_hyperparameters(session: Any) -> None:
    label, lr, count = (
        ParameterString("Label", default_value="target"),
        ParameterFloat("LR", default_value=0.01),
        ParameterInteger("Epochs"),
    )
    given = ModelHyperparameters(**{**HYPERPARAMETERS, "label_name": label, "learning_rate": lr, "epochs": count})
    by_key = {"schema.label": label, "optimizer.lr": lr, "trainer.max_epochs": count, "seed": 3}
    for hyperparameters in (given, by_key):
        made = builder(session, hyperparameters=hyperparameters)
        trained, tuned = made.create_step(name="Train"), made.create_tuning_step(["model=mlp,resnet"], name="Tune")
        found = definition(session, trained, tuned, parameters=[label, lr, count])
        for values in (
            found["Train"]["Arguments"]["HyperParameters"],
            found["Tune"]["Arguments"]["TrainingJobDefinition"]["StaticHyperParameters"],
        ):
            assert values["schema.label"] == {"Get": "Parameters.Label"}
            for key, name in (("optimizer.lr", "LR"), ("trainer.max_epochs", "Epochs")):
                assert values[key] == {"Std:Join": {"On": "", "Values": [{"Get": f"Parameters.{name}"}]}}
    sent = found["Train"]["Arguments"]["HyperParameters"]
    assert sent["seed"] == "3"
    # what the service puts in their place is read in the job as on a command line
    texts = {"schema.label": "y", "optimizer.lr": "0.5", "trainer.max_epochs": "7"}
    settings = parse(composed(unpack({**sent, **texts}), [config_dir()]))
    assert (settings.schema.label, settings.optimizer.lr, settings.trainer.max_epochs) == ("y", 0.5, 7)
    other = builder(session, hyperparameters={**by_key, "optimizer.lr": ParameterFloat("Other")}).create_step()
    assert other.name != builder(session, hyperparameters=by_key).create_step().name


def test_a_variable_is_read_as_on_a_command_line(session: Any) -> None:
    """So a parameter that is a text may set a number, and an experiment may be one."""
    rate = ParameterString("LR", default_value="0.01")
    experiment = ParameterString("Experiment", default_value="example")
    by_key = builder(session, hyperparameters={"optimizer.lr": rate, "schema.label": "target"}).create_step(name="A")
    listed = ModelHyperparameters(**{**HYPERPARAMETERS, "learning_rate": rate})
    by_name = builder(session, hyperparameters=listed).create_step(name="B")
    whole = builder(session, hyperparameters=experiment).create_step(name="C")
    found = definition(session, by_key, by_name, whole, parameters=[rate, experiment])
    sent = {name: step["Arguments"]["HyperParameters"] for name, step in found.items()}
    assert sent["A"]["optimizer.lr"] == sent["B"]["optimizer.lr"] == {"Get": "Parameters.LR"}
    assert sent["C"]["experiment"] == {"Get": "Parameters.Experiment"}
    with pytest.raises(ProblemsError, match=r"optimizer\.lr: expected a number > 0, got 'fast'"):
        builder(session, hyperparameters={"optimizer.lr": ParameterString("LR", default_value="fast")})
    with pytest.raises(ProblemsError, match="hyperparameters: a list has overrides, such as 'seed=1', got Parameter"):
        builder(session, hyperparameters=["schema.label=y", rate])


def test_what_is_wrong_is_found_when_the_configuration_is_made() -> None:
    """Without a role, a region or a source."""
    with pytest.raises(ProblemsError) as caught:
        PytorchTrainingConfig(
            hyperparameters={"optimizer.lr": ParameterFloat("LR", default_value=-1.0)},
            input_path="s3://my-bucket",
            training_instance_type="ml.g5.12",
            max_run=0,
        )
    assert [line.partition(":")[0] for line in caught.value.problems] == ["optimizer.lr", "launch.max_run"]
    with pytest.raises(ProblemsError) as caught:
        PytorchTrainingConfig(hyperparameters="example", input_path="s3://my-bucket", training_instance_type="ml.g5.12")
    assert [line.partition(":")[0] for line in caught.value.problems] == ["launch.input_path", "launch.instance_type"]
    with pytest.raises(ProblemsError, match=r"optimizer\.lrr: no such key"):
        PytorchTrainingConfig(hyperparameters={"optimizer.lrr": ParameterFloat("LR")})
    with pytest.raises(ProblemsError, match=r"optimizer\.lrr: no such key"):
        PytorchTrainingConfig(hyperparameters=["optimizer.lrr=1"])


def test_hyperparameters_may_be_an_experiment_or_overrides(session: Any) -> None:
    for given, sent in (("example", {"experiment": '"example"'}), (["seed=3"], {"seed": "3"})):
        found = definition(session, builder(session, hyperparameters=given).create_step(name="Train"))["Train"]
        parameters = found["Arguments"]["HyperParameters"]
        assert {name: text for name, text in parameters.items() if not name.startswith("sagemaker_")} == sent


def test_other_settings_reach_the_request(session: Any) -> None:
    settings = {"output_kms_key": "key", "torch": "2.12", "subnets": ["subnet-1"], "security_group_ids": ["sg-1"]}
    made = builder(session, spot=True, max_run=60, environment={"A": "b"}, settings=settings).create_step(name="Train")
    found = definition(session, made)["Train"]["Arguments"]
    assert found["OutputDataConfig"]["KmsKeyId"] == "key"
    assert ":2.12-" in found["AlgorithmSpecification"]["TrainingImage"]
    assert found["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120}
    assert found["Environment"] == {"A": "b"}
    retried = builder(session, settings={"request": {"RetryStrategy": {"MaximumRetryAttempts": 3}}})
    steps = retried.create_step(name="Train"), retried.create_tuning_step(["seed=1,2"], name="Tune")
    arguments = [each["Arguments"] for each in definition(session, *steps).values()]
    for each in (arguments[0], arguments[1]["TrainingJobDefinition"]):
        assert each["RetryStrategy"] == {"MaximumRetryAttempts": 3}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"hyperparameters": ()}, ["hyperparameters: are missing"]),
        (
            {"output_path": "s3://my-bucket", "spot": True, "checkpoint_path": "none"},
            ["launch.output_path", "launch.spot"],
        ),
        ({"checkpoint_path": "s3://my-bucket/model-artifacts/c"}, ["launch.checkpoint_path: lies inside"]),
        ({"settings": {"outputkms": 1}}, ["launch.outputkms: no such key"]),
        ({"hyperparameters": ["trainer.max_epochs=0"]}, ["trainer.max_epochs: expected a whole number >= 1"]),
        ({"training_instance_type": "ml.g5.12"}, ["launch.instance_type: no such training instance"]),
        ({"max_run": ParameterInteger("Run")}, ["max_run: has to be known now"]),
        (
            {"input_path": ParameterString("In", default_value="s3://b-1/i/")},
            ["input_path: the parameter's default ends"],
        ),
    ],
)
def test_what_is_wrong_is_found_when_the_step_is_made(session: Any, changes: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ProblemsError) as caught:
        builder(session, **changes).create_step()
    assert len(caught.value.problems) == len(lines), caught.value.problems
    assert all(found.startswith(line) for found, line in zip(caught.value.problems, lines, strict=True))


def test_a_model_without_checkpoints_is_registered_without_scores(session: Any) -> None:
    made = builder(session, checkpoint_path="none")
    training_step = made.create_step(name="Train")
    found = definition(session, training_step, made.create_registration_step(training_step, "models"))
    [registered] = [each for each in found.values() if each["Type"] == "RegisterModel"]
    assert "ModelMetrics" not in registered["Arguments"]


def test_an_image_without_patches_is_warned_of(session: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = builder(session)
    step_ = made.create_step(name="Train")
    capsys.readouterr()
    registered = made.create_registration_step(step_, "models")
    assert "patches" not in capsys.readouterr().err
    [found] = [each["Arguments"] for each in definition(session, step_, registered).values() if "Model" in each["Type"]]
    [container] = found["InferenceSpecification"]["Containers"]
    assert "/autogluon:" in container["Image"]
    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "transform.py"
    old = "763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312-ubuntu22.04-sagemaker"
    made.create_registration_step(step_, "models", image_uri=old)
    assert f"warning: image_uri: {old} gets no security patches since 2026-06-30" in capsys.readouterr().err
    elsewhere = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    with pytest.raises(UserError, match="image_uri: lies in us-east-1, and a model in eu-west-1 takes one of its own"):
        made.create_registration_step(step_, "models", image_uri=elsewhere)
