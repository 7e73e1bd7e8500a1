"""A tuning job as values, and as the request that the SDK makes of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.launch.jobs import PAYLOAD, settings_of, spec_of
from tests.launch.request.test_render import VPC, same_as_golden

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.container.hyperparameters import pack, unpack
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.launch.request.job_spec import JobSpec
from tabstep.launch.request.tuner_spec import TunerSpec, ignored, longest, ranged, tuner_name, tuner_spec
from tabstep.log_lines import METRIC_REGEXES
from tabstep.sweep.distributions import Numbers, Values, enumerate_values
from tabstep.sweep.options import Options, parse_options
from tabstep.sweep.space import parse_space

RANGES = (
    "optimizer.lr=tag(log, interval(1e-4,1e-2))",
    "model.width=choice(64,128)",
    "model.depth=range(1,5)",
    "model.dropout=interval(0.0,0.5)",
    "data.batch_size=tag(log, int(interval(64,512)))",
    "optimizer.weight_decay=range(0.0,0.31,0.1)",
)


def options_of(**changes: Any) -> Options:
    raw = {"sampler": "tpe", "pruner": "none", "n_trials": 20, **changes}
    return parse_options(raw, objective="val_auroc", seed=42)


def job_of(**launch: Any) -> JobSpec:
    payload = replace(PAYLOAD, hyperparameters={"model": "resnet"})
    own = {"job_name": "tuner-1", "instance_type": "ml.m5.xlarge", **launch}
    return spec_of(settings_of("model=resnet", **own), payload)


def tuner_of(*texts: str, shared: tuple[str, ...] = (), job: JobSpec | None = None, **changes: Any) -> TunerSpec:
    return tuner_spec(
        job or job_of(),
        parse_space([*shared, *(texts or RANGES)]),
        options_of(**changes),
        shared=shared,
        max_epochs=10,
        max_parallel=4,
    )


def request_of(spec: TunerSpec) -> dict[str, Any]:
    pytest.importorskip("sagemaker")
    from tabstep.launch.request import render, service_model

    request = render.tuner_request(spec)
    assert service_model.violations(request, "CreateHyperParameterTuningJobRequest") == []
    return request


def test_request_is_the_golden_one() -> None:
    job = job_of(
        **VPC,
        spot=True,
        max_run=600,
        environment={"A": "b"},
        tags={"team": "risk"},
    )
    same_as_golden("tuner", request_of(tuner_of(job=job, pruner="median", timeout=7200)))


def test_what_a_job_has_its_tuner_has() -> None:
    from tabstep.launch.request import render

    job = job_of(
        **VPC,
        spot=True,
        max_run=600,
        environment={"A": "b"},
        input_mode="FastFile",
    )
    alone, tuned = render.request(job), request_of(tuner_of(job=job))
    definition = tuned["TrainingJobDefinition"]
    same = (
        "Environment", "CheckpointConfig", "VpcConfig", "EnableManagedSpotTraining", "StoppingCondition", "RoleArn",
        "OutputDataConfig", "InputDataConfig", "EnableInterContainerTrafficEncryption",
    )  # fmt: skip
    for key in same:
        assert definition[key] == alone[key], key
    assert tuned["Tags"] == alone["Tags"]
    for key in ("TrainingImage", "MetricDefinitions", "TrainingInputMode"):
        assert definition["AlgorithmSpecification"][key] == alone["AlgorithmSpecification"][key]
    assert definition["HyperParameterTuningResourceConfig"] == alone["ResourceConfig"]
    own = {"sagemaker_estimator_class_name", "sagemaker_estimator_module"}
    assert {k: v for k, v in definition["StaticHyperParameters"].items() if k not in own} == alone["HyperParameters"]


def test_every_field_has_an_effect_on_the_request() -> None:
    changes: dict[str, Any] = {
        "name": "other", "job": job_of(max_run=60), "ranges": {"seed": Values(("1",))}, "metric": "Validation Loss",
        "direction": "Minimize", "strategy": "Random", "early_stopping": True, "resources": (1, 9), "max_jobs": 2,
        "max_parallel": 1, "max_seconds": 600, "seed": 1,
    }  # fmt: skip
    base = tuner_of()
    assert set(changes) == {field.name for field in dataclasses.fields(TunerSpec)}
    before = request_of(base)
    for name, value in changes.items():
        assert request_of(replace(base, **{name: value})) != before, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=interval(0.1,0.5)", Numbers(low=0.1, high=0.5)),
        ("a.b=tag(log, interval(1e-4,1e-2))", Numbers(low=1e-4, high=1e-2, log=True)),
        ("a.b=int(interval(1,8))", Numbers(low=1, high=8, step=1, integer=True)),
        ("a.b=range(1,9)", Numbers(low=1, high=8, step=1, integer=True)),
        ("a.b=range(1,9,2)", Values(("1", "3", "5", "7"))),
        ("a.b=range(0.0,0.31,0.1)", Values(("0.0", "0.1", "0.2", "0.3"))),
        ("a.b=choice(x,y)", Values(("x", "y"))),
        ("a.b=x,y", Values(("x", "y"))),
        ("a.b=shuffle(range(1,4))", None),  # some order of 1, 2, 3
    ],
)
def test_ranges(text: str, expected: Any) -> None:
    dimension = parse_space([text]).dimensions["a.b"]
    found = ranged("a.b", dimension, "Bayesian")
    assert found == expected if expected is not None else set(found.texts) == {"1", "2", "3"}  # type: ignore[union-attr]


def test_a_grid_is_made_of_lists() -> None:
    spec = tuner_of("model.depth=range(1,5)", "model.width=64,128", sampler=None, n_trials=None)
    assert spec.ranges == {"model.depth": Values(("1", "2", "3", "4")), "model.width": Values(("64", "128"))}
    assert (spec.strategy, spec.max_jobs, spec.max_parallel) == ("Grid", 8, 4)
    assert tuner_of("model.width=64,128", sampler="grid", n_trials=9).max_jobs == 2


@given(st.integers(-100, 100), st.integers(1, 60), st.integers(1, 7), st.booleans())
def test_numbers_with_steps_keep_their_values_or_are_refused(low: int, count: int, step: int, grid: bool) -> None:
    dimension = Numbers(low=low, high=low + count * step, step=step, integer=True)
    texts = enumerate_values("a", dimension)
    try:
        found = ranged("a", dimension, "Grid" if grid else "Bayesian")
    except UserError:
        assert len(texts) > 30
        assert grid or step > 1
    else:
        assert found == Values(texts) or (found == dimension and step == 1 and not grid)


@pytest.mark.parametrize(
    ("options", "strategy", "early", "resources"),
    [
        ({}, "Bayesian", False, None),
        ({"pruner": "median"}, "Bayesian", True, None),
        ({"sampler": "random"}, "Random", False, None),
        ({"pruner": "hyperband"}, "Hyperband", False, (1, 12)),  # no job reaches 12: ten epochs and the closing line
        ({"sampler": "random", "pruner": "hyperband"}, "Hyperband", False, (1, 12)),
    ],
)
def test_strategy(options: dict[str, Any], strategy: str, early: bool, resources: tuple[int, int] | None) -> None:
    spec = tuner_of(**options)
    assert (spec.strategy, spec.early_stopping, spec.resources) == (strategy, early, resources)
    config = request_of(spec)["HyperParameterTuningJobConfig"]
    assert config["TrainingJobEarlyStoppingType"] == ("Auto" if early else "Off")
    hyperband = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig")
    assert hyperband == (None if resources is None else {"MinResource": 1, "MaxResource": 12})


@pytest.mark.parametrize(
    ("objective", "direction"),
    [("val_auroc", "Maximize"), ("val_f1", "Maximize"), ("val_loss", "Minimize"), ("train_loss", "Minimize")],
)
def test_objective_is_a_metric_that_the_job_has(objective: str, direction: str) -> None:
    found = request_of(tuner_of(objectives=[objective]))
    asked = found["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    metrics = found["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    assert asked["Type"] == direction
    assert {"Name": asked["MetricName"], "Regex": METRIC_REGEXES[asked["MetricName"]]} in metrics


def chosen(request: Mapping[str, Any]) -> dict[str, str]:
    """Values as the service gives them to a job: numbers as bare text, of a list what stands in the request."""
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"]
    values = {each["Name"]: each["Values"][-1] for each in ranges["CategoricalParameterRanges"]}
    values |= {each["Name"]: each["MaxValue"] for each in ranges["IntegerParameterRanges"]}
    return values | {"optimizer.lr": "3.4E-4", "model.dropout": "0"}


def test_a_tuned_job_composes_to_what_was_chosen() -> None:
    shared = ("model=resnet", "tags=[a, 'b c']", "schema=auto")
    job = replace(job_of(), hyperparameters=pack(shared))
    request = request_of(tuner_of(shared=shared, job=job))
    static = request["TrainingJobDefinition"]["StaticHyperParameters"]
    tuned = chosen(request)
    assert not static.keys() & tuned.keys()
    overrides = unpack({**static, **tuned, "_tuning_objective_metric": '"Validation AUC ROC"'})
    settings = parse(composed(overrides, [config_dir()]))
    assert (settings.model.name, settings.model.width, settings.model.depth) == ("resnet", 128, 4)  # type: ignore[union-attr]
    assert (settings.optimizer.lr, settings.optimizer.weight_decay) == (0.00034, 0.3)
    assert (settings.model.dropout, settings.data.batch_size) == (0, 512)  # type: ignore[union-attr]
    assert settings.tags == ["a", "b c"]


@pytest.mark.parametrize(
    ("texts", "options", "line"),
    [
        (RANGES, {"sampler": "cmaes"}, "hydra.sweeper.sampler: a tuner has no cmaes: set tpe, random or grid"),
        (RANGES, {"sampler": "nsgaii"}, "hydra.sweeper.sampler: a tuner has no nsgaii"),
        (("seed=1,2",), {"sampler": "grid", "pruner": "hyperband"}, "hydra.sweeper.pruner: a tuner's Hyperband"),
        (RANGES, {"objectives": ["val_auroc", "val_f1"]}, "hydra.sweeper.objectives: a tuner follows one, got val_au"),
        (RANGES, {"objectives": ["val_accuracy"]}, "hydra.sweeper.objectives: val_accuracy is in no line of a job's l"),
        (RANGES, {"objectives": ["seconds"]}, "hydra.sweeper.objectives: seconds is in no line of a job's log"),
        (("seed=3",), {}, "hydra.sweeper.params: there is nothing to tune"),
        (("data.batch_size=range(32,4096,32)",), {}, "data.batch_size: 127 values are a list for a tuner, which takes"),
        (("seed=range(0,31)",), {"sampler": "grid"}, "seed: 31 values are a list for a tuner, which takes at most 30"),
        (("optimizer.lr=interval(0.1,0.2)",), {"sampler": "grid"}, "optimizer.lr: interval(0.1,0.2) has no end of val"),
        (
            ("seed=1,2", "model.width=8,16"),
            {"sampler": "grid", "n_trials": 3},
            "hydra.sweeper.n_trials: 3, but a tuner",
        ),
        (("tags=[a],[b]",), {}, "tags=[a]: a tuner gives plain words and numbers to keys of the configuration"),
        (("+model.new=1,2",), {}, "+model.new=1: a tuner gives plain words"),
        (("launch.instance_type=ml.m5.large,ml.m5.xlarge",), {}, "launch.instance_type: is the same for all jobs"),
        (
            ("data.path=a,b",),
            {},
            "data.path: is the same for all jobs of a tuner; hydra/launcher=sagemaker without lau",
        ),
        (("model={width: 8}", "model.width=8,16"), {}, "model.width: another override sets it too"),
        (tuple(f"a.k{i}=1,2" for i in range(31)), {}, "hydra.sweeper.params: 31 ranges, and a tuner takes at most 30"),
    ],
)
def test_what_a_tuner_cannot_do_is_one_line(texts: tuple[str, ...], options: dict[str, Any], line: str) -> None:
    space = parse_space(texts)
    shared = list(space.shared.values())
    with pytest.raises(ProblemsError) as caught:
        tuner_spec(job_of(), space, options_of(**options), shared=shared, max_epochs=1, max_parallel=1)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert caught.value.problems[0].startswith(line)


def test_a_job_has_room_for_so_many_hyperparameters() -> None:
    job = replace(job_of(), hyperparameters={f"k{i}": "1" for i in range(85)})
    with pytest.raises(ProblemsError, match="hyperparameters: 91 with the ranges, at most 90 are allowed"):
        tuner_of(job=job)


def test_settings_without_an_effect_are_named() -> None:
    options = options_of(max_failures=1, storage="sqlite:///s.db", retry_failed=True)
    found = ignored(options, job_of(keep_alive=60, debugger=True))
    assert [line.partition(":")[0] for line in found] == [
        "hydra.sweeper.max_failures", "hydra.sweeper.storage", "hydra.sweeper.retry_failed", "launch.keep_alive",
        "launch.debugger",
    ]  # fmt: skip
    assert ignored(options_of(), job_of()) == []


def test_longest_trial() -> None:
    settings = settings_of("trainer.max_epochs=3")
    assert longest([settings], parse_space(["seed=1,2"])) == 3
    assert longest([settings], parse_space(["trainer.max_epochs=2,9,4"])) == 9
    assert longest([settings], parse_space(["trainer.max_epochs=range(2,8)"])) == 7
    assert longest([settings, settings_of("trainer.max_epochs=null")], parse_space(["seed=1,2"])) == 1000
    assert longest([settings], parse_space(["trainer.max_epochs=2,null"])) == 1000


@given(st.text(), st.datetimes())
def test_name_is_always_valid(stem: str, now: Any) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}", tuner_name(stem, now))


def test_limits_of_the_service_are_named_by_their_keys() -> None:
    pytest.importorskip("sagemaker")
    from tabstep.launch.request import render, service_model

    job = job_of(environment={f"V{i}": "x" for i in range(49)}, tags={"t" * 129: "x"})
    request = render.tuner_request(replace(tuner_of(job=job), name="n" * 33, max_seconds=60))
    found = service_model.violations(request, "CreateHyperParameterTuningJobRequest")
    keys = {line.partition(":")[0] for line in found}
    assert keys == {"launch.job_name", "hydra.sweeper.timeout", "launch.environment", "launch.tags[2].Key"}
