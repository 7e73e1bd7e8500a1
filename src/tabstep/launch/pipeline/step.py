"""A training step before the SDK has it: checked like a job that is sent now, with stand-ins for pipeline variables."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tabstep.config.compose import composed
from tabstep.config.conf_directory import config_dir, group_options
from tabstep.config.grammar import written
from tabstep.config.overrides import check_overrides
from tabstep.config.parse import parse
from tabstep.config.settings import RemoteSettings, Settings
from tabstep.container.statistics import FILE
from tabstep.errors import nearest, raise_problems
from tabstep.launch.pipeline.model_hyperparameters import ModelHyperparameters
from tabstep.launch.pipeline.variables import is_variable, joined
from tabstep.launch.prepare_job import prepare
from tabstep.launch.request import sdk, spec_problems
from tabstep.launch.request.checked_request import ANY_ROLE, checked_request
from tabstep.launch.request.images import region_of
from tabstep.launch.request.job_spec import JobSpec, Payload, generated_root, job_spec, split_uri
from tabstep.launch.request.tuner_spec import TunerSpec
from tabstep.launch.source.bundle import Bundle
from tabstep.schema import SPLITS

# Long ago: no time may enter a step, or its cache never hits.
NO_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_UNKNOWN: Final = "s3://known-when-it-runs"
_VALUE: Final = "hyperparameters."
_STAND_INS = {
    "input_path": f"{_UNKNOWN}/input",
    "output_path": f"{_UNKNOWN}/output",
    "checkpoint_path": f"{_UNKNOWN}/checkpoints",
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
            return replace(self, name=name)
        from sagemaker.workflow.execution_variables import ExecutionVariables

        digested = self.name.rpartition("-")[2]
        own = name if digested in name else f"{name}-{digested}"
        base = self.late.get("checkpoint_path", self.spec.checkpoint_path.rstrip("/"))
        run = ExecutionVariables.PIPELINE_NAME if cached else ExecutionVariables.PIPELINE_EXECUTION_ID
        place = joined(joined(base, run), own if cached else name)
        return replace(self, name=name, late={**self.late, "checkpoint_path": place})

    def statistics_uri(self, tuned: Any = None) -> Any:
        """Return where the job's scores will lie; None without checkpoints, for only those are mirrored to S3.

        Args:
            tuned: name of one of a tuner's jobs, which have a directory each.
        """
        if self.spec.checkpoint_path is None:
            return None
        place = self.late.get("checkpoint_path", self.spec.checkpoint_path)
        return joined(place if tuned is None else joined(place, tuned), FILE)

    def model_uri(self, tuned: Any) -> Any:
        """Return where the artifact of one of a tuner's jobs will lie."""
        place = self.late.get("output_path", self.spec.output_path.rstrip("/"))
        return joined(joined(place, tuned), "output/model.tar.gz")


Hyperparameters = ModelHyperparameters | str | Sequence[str] | Mapping[str, Any] | Any
"""``Any`` is a variable of the pipeline: the name of an experiment."""


def job_overrides(hyperparameters: Hyperparameters) -> list[str]:
    """Return what a command line would say: of feature lists, of an experiment's name, of values by key, or as it is.

    Raises:
        ProblemsError: a list holds something else than overrides.

    >>> job_overrides("example"), job_overrides(["seed=1"]), job_overrides({"seed": 1})
    (['experiment=example'], ['seed=1'], ['seed=1'])
    """
    if isinstance(hyperparameters, ModelHyperparameters):
        return hyperparameters.to_overrides()
    if isinstance(hyperparameters, Mapping):
        return [f"{key}={written(value)}" for key, value in hyperparameters.items() if not is_variable(value)]
    if is_variable(hyperparameters):
        return []
    if isinstance(hyperparameters, str):
        return [f"experiment={hyperparameters}"]
    raise_problems(
        f"hyperparameters: a list has overrides, such as 'seed=1', got {text!r}: give variables by key, {{'seed': …}}"
        for text in hyperparameters
        if not isinstance(text, str)
    )
    return list(hyperparameters)


def job_variables(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """Return the hyperparameters that a pipeline sets when it runs, by key; each is read as on a command line."""
    if isinstance(hyperparameters, ModelHyperparameters):
        return hyperparameters.variables()
    if is_variable(hyperparameters):
        return {"experiment": hyperparameters}
    values = hyperparameters if isinstance(hyperparameters, Mapping) else {}
    return {key: value for key, value in values.items() if is_variable(value)}


def check_step(overrides: Sequence[str], launch: Mapping[str, Any]) -> None:
    """Check what can be known of a job without its role, its region and its source.

    Raises:
        ProblemsError: everything that is wrong, one line each.
    """
    known, late = apart(launch)
    region = known.get("region") or region_of(known["image_uri"] or "") or "us-east-1"
    known |= {"role": known.get("role") or ANY_ROLE, "region": region}
    settings = step_settings(overrides, known)
    channels: dict[str, str] = {name: uri for name in SPLITS if (uri := known.get(f"channels.{name}")) is not None}
    payload = Payload(bundle_digest="0" * 64, hyperparameters={}, channels=channels)
    spec = job_spec(settings, settings.remote, payload, region, NO_TIME)
    checked_request(
        spec, [*spec_problems.problems(spec, settings.remote, settings.trainer), *_slash_problems(known, late)]
    )


def prepare_step(overrides: Sequence[str], launch: Mapping[str, Any]) -> Step:
    """Check a job and pack its source; its checkpoints have no place of their own yet, see ``Step.placed``.

    Args:
        launch: values for conf/launch, pipeline variables among them.

    Raises:
        ProblemsError: everything that is wrong, one line each.
    """
    known, late = apart(launch)
    job = prepare(step_settings(overrides, known), overrides, now=NO_TIME, problems=_slash_problems(known, late))
    below = job.spec.channels if "input_path" in late else ()
    return Step(
        spec=job.spec,
        late={**late, **{f"channels.{split}": joined(late["input_path"], f"{split}/") for split in below}},
        bundle=job.bundle,
        name=f"PyTorchTraining-{digest(job.spec, late)[:8]}",
        warnings=job.warnings,
    )


def step_settings(overrides: Sequence[str], known: Mapping[str, Any]) -> Settings:
    """Compose as a command line would, then set what the configuration object says.

    Raises:
        ProblemsError: what is wrong with it, one line each.
    """
    values = {name.removeprefix(_VALUE): value for name, value in known.items() if name.startswith(_VALUE)}
    # A text as it stands, for so the job gets it: a parameter that is a text may set a number.
    texts = {key: value if isinstance(value, str) else written(value) for key, value in values.items()}
    defaults = [f"{key}={text}" for key, text in texts.items() if values[key] is not None]
    groups = group_options([config_dir()])
    unknown = [f"{key}=null" for key, value in values.items() if value is None and key not in groups]
    problems, _ = check_overrides([*overrides, *defaults, *unknown], [config_dir()])
    raise_problems(problems)
    config = composed(["launch=sagemaker", *overrides, *defaults], [config_dir()])
    config["launch"] |= {name: value for name, value in known.items() if "." not in name}
    config["data"] |= {split: known.get(f"channels.{split}") for split in SPLITS} | {"path": None}
    settings = parse(config)
    return replace(settings, launch=_with_places(settings.remote, own_input="input_path" not in known))


def apart(launch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values with a default or a stand-in for each variable, and the variables, by field of the spec."""
    values = dict(launch)
    if isinstance(values["input_path"], Mapping):
        values |= {f"channels.{split}": value for split, value in values.pop("input_path").items()}
    late = {name: value for name, value in values.items() if is_variable(value)}
    wrong = [name for name in late if name not in _STAND_INS and not name.startswith(("channels.", _VALUE))]
    problems = [f"{name}: has to be known now, and is a variable of the pipeline" for name in wrong]
    named = [name.removeprefix("channels.") for name in values if name.startswith("channels.")]
    problems += [f"input_path: {name!r} is no split: {nearest(name, SPLITS)}" for name in named if name not in SPLITS]
    raise_problems(problems)
    for name, value in late.items():
        default = getattr(value, "default_value", None)  # which only a parameter has
        other = None if name.startswith(_VALUE) else f"{_UNKNOWN}/{name.replace('.', '/')}"
        values[name] = _STAND_INS.get(name, other) if default is None else default
    return values, late


def _with_places(remote: RemoteSettings, *, own_input: bool) -> RemoteSettings:
    """Fill in the paths that were not given, and the bucket; without a date, or a step's cache never hits."""
    named = replace(remote, input_path=_known(remote.input_path), output_path=_known(remote.output_path))
    root = generated_root(named, remote.role or "", remote.region or sdk.configured_region() or "")
    return replace(
        remote,
        bucket=split_uri(root)[0],
        input_path=remote.input_path or (None if own_input else f"{root}/input"),
        output_path=remote.output_path or f"{root}/output",
        checkpoint_path=remote.checkpoint_path or f"{root}/checkpoints",
    )


def _known(uri: str | None) -> str | None:
    return None if uri is not None and uri.startswith(_UNKNOWN) else uri


def _slash_problems(known: Mapping[str, Any], late: Mapping[str, Any]) -> list[str]:
    if "input_path" in late and known["input_path"].endswith("/"):
        return ["input_path: the parameter's default ends in a slash: leave it out, channels are joined with one"]
    return []


def digest(spec: JobSpec | TunerSpec, late: Mapping[str, Any]) -> str:
    """Digest what makes a step another one; its tags name the commit, and an equal bundle of another is the same."""
    values = _without_tags(dataclasses.asdict(spec)) | {name: value.expr for name, value in late.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _without_tags(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if name == "tags" else _without_tags(value) if name == "job" else value
        for name, value in values.items()
    }
