"""From a ``JobSpec`` to the SDK's estimator, and to the request that it would send."""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tabstep.launch.request import sdk
from tabstep.launch.request.job_spec import JobSpec, split_uri
from tabstep.launch.request.overlay import overlaid
from tabstep.sweep.distributions import Dimension, Values

if TYPE_CHECKING:
    from tabstep.launch.request.tuner_spec import TunerSpec


def estimator(spec: JobSpec, session: Any, late: Mapping[str, Any] | None = None) -> Any:
    """Return the ``sagemaker.pytorch.PyTorch`` of a job.

    Args:
        session: a session of the SDK, see ``sdk.session``.
        late: fields of the spec whose value only a pipeline knows, as its variables.
    """
    with sdk.quiet():
        from sagemaker.pytorch import PyTorch

        options = {option: getattr(spec, field) for field, option in _OPTIONS.items()} | _composed(spec)
        options |= {_OPTIONS[name]: value for name, value in (late or {}).items() if name in _OPTIONS}
        kind = "hyperparameters."
        values = {name.removeprefix(kind): value for name, value in (late or {}).items() if name.startswith(kind)}
        options["hyperparameters"] |= values
        return PyTorch(sagemaker_session=session, **options, **_watching(spec, options["output_path"]))


def tuner(spec: TunerSpec, session: Any, late: Mapping[str, Any] | None = None) -> Any:
    """Return the ``sagemaker.tuner.HyperparameterTuner`` of a tuning job, around the estimator of its jobs."""
    repeated = estimator(spec.job, session, late)
    with sdk.quiet():
        from sagemaker.tuner import HyperbandStrategyConfig, HyperparameterTuner, StrategyConfig

        hyperband = None
        if spec.resources is not None:
            least, most = spec.resources
            hyperband = StrategyConfig(HyperbandStrategyConfig(max_resource=most, min_resource=least))
        return HyperparameterTuner(
            repeated,
            spec.metric,
            {key: _range(dimension) for key, dimension in spec.ranges.items()},
            metric_definitions=repeated.metric_definitions,  # those of the estimator are left out otherwise
            strategy=spec.strategy,
            strategy_config=hyperband,
            objective_type=spec.direction,
            max_jobs=spec.max_jobs,
            max_parallel_jobs=spec.max_parallel,
            max_runtime_in_seconds=spec.max_seconds,
            early_stopping_type="Auto" if spec.early_stopping else "Off",
            random_seed=spec.seed,
        )


def _range(dimension: Dimension) -> Any:
    from sagemaker.tuner import CategoricalParameter, ContinuousParameter, IntegerParameter

    if isinstance(dimension, Values):
        return CategoricalParameter(list(dimension.texts))
    kind = IntegerParameter if dimension.integer else ContinuousParameter
    return kind(dimension.low, dimension.high, scaling_type="Logarithmic" if dimension.log else "Linear")


def inputs(spec: JobSpec, late: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the channels as the SDK takes them; None for a job without any. ``late`` may name ``channels.train``."""
    with sdk.quiet():
        from sagemaker.inputs import TrainingInput

        channels = {
            name: TrainingInput(
                (late or {}).get(f"channels.{name}", uri),
                distribution="ShardedByS3Key" if spec.sharded and name == "train" else "FullyReplicated",
                input_mode=spec.input_mode,
            )
            for name, uri in spec.channels.items()
        }
    return channels or None


def request(spec: JobSpec) -> dict[str, Any]:
    """Return the CreateTrainingJob request that the SDK would send; needs no network and no credentials."""
    return overlaid(_rendered(spec, spec.job_name, partial(estimator, spec)), spec.request)


def lay_over(session: Any, overlay: Mapping[str, Any]) -> None:
    """Have a pipeline's session add an overlay to each request: a step is rendered when its pipeline is."""
    intercept = session._intercept_create_request

    def laid(request: dict[str, Any], create: Any, func_name: str | None = None) -> Any:
        return intercept(overlaid(request, overlay), create, func_name)

    session._intercept_create_request = laid


def tuner_request(spec: TunerSpec) -> dict[str, Any]:
    """Return the CreateHyperParameterTuningJob request that the SDK would send, as ``request`` does."""
    rendered = _rendered(spec.job, spec.name, partial(tuner, spec))
    return overlaid(rendered, {"TrainingJobDefinition": spec.job.request})


def _rendered(spec: JobSpec, name: str, make: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the request of what ``make`` builds for a session, which keeps it instead of sending it."""
    bucket, _ = split_uri(spec.bundle_uri)
    session = sdk.session(sdk.offline_session(spec.region), bucket)
    rendered: dict[str, Any] = {}
    session._intercept_create_request = lambda request, *_: rendered.update(copy.deepcopy(request))
    built, channels = make(session), inputs(spec)
    with sdk.quiet(logging.CRITICAL):  # it misses the job that was never sent
        built.fit(inputs=channels, wait=False, job_name=name)
    return rendered


# Fields of a spec that the SDK takes as they are, and what it calls them.
_OPTIONS = {name: name for name in (
    "role", "entry_point", "image_uri", "framework_version", "py_version", "instance_type", "instance_count",
    "volume_size", "max_run", "max_wait", "output_path", "output_kms_key", "volume_kms_key",
)} | {
    "checkpoint_path": "checkpoint_s3_uri",
    "encrypt_inter_container": "encrypt_inter_container_traffic",
    "keep_alive": "keep_alive_period_in_seconds",
    "network_isolation": "enable_network_isolation",
    "spot": "use_spot_instances",
}  # fmt: skip


def _composed(spec: JobSpec) -> dict[str, Any]:
    """Return the options that the SDK takes in a form of its own."""
    return {
        "source_dir": spec.bundle_uri,
        "code_location": spec.bundle_uri.rpartition("/")[0],
        "hyperparameters": {name: _plain(text) for name, text in spec.hyperparameters.items()},
        "environment": dict(spec.environment) or None,
        "tags": [{"Key": name, "Value": text} for name, text in spec.tags.items()] or None,
        "distribution": {"torch_distributed": {"enabled": True}} if spec.distributed else None,
        "checkpoint_local_path": "/opt/ml/checkpoints" if spec.checkpoint_path else None,
        "subnets": list(spec.subnets) or None,
        "security_group_ids": list(spec.security_group_ids) or None,
    }


def _plain(text: str) -> Any:
    """Return a number where the SDK's JSON of it is the same text: ``0.0003`` reads better than ``"0.0003"``."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number and json.dumps(value) == text else text


def _watching(spec: JobSpec, output_path: Any) -> dict[str, Any]:
    from sagemaker.debugger import DebuggerHookConfig, ProfilerConfig

    on = spec.profiler_interval is not None
    profiler = ProfilerConfig(s3_output_path=output_path, system_monitor_interval_millis=spec.profiler_interval)
    return {
        "metric_definitions": [{"Name": name, "Regex": regex} for name, regex in spec.metric_definitions.items()],
        "enable_sagemaker_metrics": True,  # the SDK sets it by framework_version only, never for an image
        "profiler_config": profiler if on else None,
        "disable_profiler": not on,
        "debugger_hook_config": DebuggerHookConfig(s3_output_path=output_path) if spec.debugger else False,
    }
