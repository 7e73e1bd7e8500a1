"""A job that a pipeline runs later: checked like one that is sent now, with stand-ins for what is not known."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.container.statistics import FILE
from tabstep.errors import nearest, raise_problems
from tabstep.launch.job import prepare
from tabstep.launch.pipeline.model_hyperparameters import ModelHyperparameters
from tabstep.launch.request import sdk
from tabstep.launch.request.job_spec import JobSpec
from tabstep.launch.request.tuner_spec import TunerSpec
from tabstep.launch.source.bundle import Bundle, checkout
from tabstep.schema import SPLITS

# Long ago: no time may enter a step, or its cache never hits.
NO_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_STAND_INS = {
    "input_path": "s3://known-when-it-runs/input",
    "output_path": "s3://known-when-it-runs/output",
    "checkpoint_path": "s3://known-when-it-runs/checkpoints",
    "instance_type": "ml.g5.12xlarge",
    "instance_count": 1,
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A checked job, and those of its fields that a pipeline sets when it runs."""

    spec: JobSpec
    late: Mapping[str, Any]
    bundle: Bundle
    name: str  # the same for the same configuration
    warnings: tuple[str, ...]

    def placed(self, name: str, *, cached: bool) -> Step:
        """Return the step with checkpoints that are no other's.

        A later execution must not find an earlier one's, unless it is the same step that is cached, and no two steps
        of a pipeline share a place: the second would take on the first one's model, and both write their scores there.

        Args:
            name: the step's own among those of its pipeline.
            cached: the place is one of the pipeline and the configuration instead of one of each execution, which a
                cache would never find again.
        """
        if self.spec.checkpoint_path is None:
            return self
        from sagemaker.workflow.execution_variables import ExecutionVariables

        digested = self.name.rpartition("-")[2]
        own = name if digested in name else f"{name}-{digested}"
        base = self.late.get("checkpoint_path", self.spec.checkpoint_path.rstrip("/"))
        run = ExecutionVariables.PIPELINE_NAME if cached else ExecutionVariables.PIPELINE_EXECUTION_ID
        place = _joined(_joined(base, run), own if cached else name)
        return replace(self, name=name, late={**self.late, "checkpoint_path": place})

    def statistics_uri(self, tuned: Any = None) -> Any:
        """Return where the job's scores will lie; None without checkpoints, for only those are mirrored to S3.

        Args:
            tuned: name of one of a tuner's jobs, which have a directory each.
        """
        if self.spec.checkpoint_path is None:
            return None
        place = self.late.get("checkpoint_path", self.spec.checkpoint_path)
        return _joined(place if tuned is None else _joined(place, tuned), FILE)

    def model_uri(self, tuned: Any) -> Any:
        """Return where the artifact of one of a tuner's jobs will lie."""
        place = self.late.get("output_path", self.spec.output_path.rstrip("/"))
        return _joined(_joined(place, tuned), "output/model.tar.gz")


def job_overrides(hyperparameters: ModelHyperparameters | str | Sequence[str]) -> list[str]:
    """Return what a command line would say: of feature lists, of an experiment's name, or as it is.

    >>> job_overrides("example"), job_overrides(["seed=1"])
    (['experiment=example'], ['seed=1'])
    """
    if isinstance(hyperparameters, ModelHyperparameters):
        return hyperparameters.to_overrides()
    return [f"experiment={hyperparameters}"] if isinstance(hyperparameters, str) else list(hyperparameters)


def prepare_step(overrides: Sequence[str], launch: Mapping[str, Any]) -> Step:
    """Check a job and pack its source; its checkpoints have no place of their own yet, see ``Step.placed``.

    Args:
        launch: values for conf/launch, pipeline variables among them.

    Raises:
        ProblemsError: everything that is wrong, one line each.
    """
    known, late = apart(launch)
    slash = "input_path" in late and known["input_path"].endswith("/")
    problem = "input_path: the parameter's default ends in a slash: leave it out, channels are joined with one"
    job = prepare(step_settings(overrides, known), overrides, now=NO_TIME, problems=[problem] if slash else [])
    return Step(
        spec=job.spec,
        late={**late, **_late_channels(job.spec, late)},
        bundle=job.bundle,
        name=f"PyTorchTraining-{digest(job.spec, late)[:8]}",
        warnings=job.warnings,
    )


def step_settings(overrides: Sequence[str], known: Mapping[str, Any]) -> Settings:
    """Compose as a command line would, then set what the configuration object says."""
    config = composed(["launch=sagemaker", *overrides], [conf_dir()])
    config["launch"] |= {name: value for name, value in known.items() if not name.startswith("channels.")}
    config["data"] |= {split: known.get(f"channels.{split}") for split in SPLITS} | {"path": None}
    return parse(config)


def conf_dir() -> Path:
    """Return the options of the checkout, or of the installed package."""
    return (checkout() or Path(__file__).resolve().parents[2]) / "conf"


def apart(launch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values with a default or a stand-in for each variable, and the variables, by field of the spec."""
    values = dict(launch)
    if isinstance(values["input_path"], Mapping):
        values |= {f"channels.{split}": value for split, value in values.pop("input_path").items()}
    late = {name: value for name, value in values.items() if _is_variable(value)}
    wrong = [name for name in late if name not in _STAND_INS and not name.startswith("channels.")]
    problems = [f"{name}: has to be known now, and is a variable of the pipeline" for name in wrong]
    named = [name.removeprefix("channels.") for name in values if name.startswith("channels.")]
    problems += [f"input_path: {name!r} is no split: {nearest(name, SPLITS)}" for name in named if name not in SPLITS]
    raise_problems(problems)
    for name, value in late.items():
        default = getattr(value, "default_value", None)
        other = f"s3://known-when-it-runs/{name.replace('.', '/')}"
        values[name] = _STAND_INS.get(name, other) if default is None else default
    return values, late


def _late_channels(spec: JobSpec, late: Mapping[str, Any]) -> dict[str, Any]:
    if "input_path" not in late:
        return {}
    return {f"channels.{split}": _joined(late["input_path"], f"{split}/") for split in spec.channels}


def _joined(base: Any, name: Any) -> Any:
    """Join an address and a name: now where both are known, else when the pipeline runs."""
    if isinstance(base, str) and isinstance(name, str):
        return f"{base}/{name}"
    from sagemaker.workflow.functions import Join

    values = base.values if isinstance(base, Join) else [base]
    return Join(on="/", values=[*values, name])


def _is_variable(value: Any) -> bool:
    if value is None or isinstance(value, str | int | float | list | dict | tuple):
        return False
    sdk.sagemaker()
    with sdk.quiet():
        from sagemaker.workflow import is_pipeline_variable

    return bool(is_pipeline_variable(value))


def digest(spec: JobSpec | TunerSpec, late: Mapping[str, Any]) -> str:
    """Digest what makes a step another one; its tags name the commit, and an equal bundle of another is the same."""
    values = _without_tags(dataclasses.asdict(spec)) | {name: value.expr for name, value in late.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _without_tags(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if name == "tags" else _without_tags(value) if name == "job" else value
        for name, value in values.items()
    }
