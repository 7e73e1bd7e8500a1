"""Follows a tuning job: how many of its jobs have ended, the best so far, and at the end how to run that one again."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.container.hyperparameters import PACKED_KEY, unpack
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.launch.request import sdk
from tabstep.launch.s3.aws_errors import refusals
from tabstep.launch.s3.download import download, objective
from tabstep.log_lines import METRIC_NAMES, number

ENDED: Final = ("Completed", "Failed", "Stopped")
_SECONDS: Final = 30.0
_FAILURES: Final = 60

Show = Callable[[str], None]
Again = Callable[[Mapping[str, str]], str]


def attach_tuner(settings: Settings) -> float | None:
    """Follow the tuning job ``launch.attach`` to its end; see ``follow_tuner``."""
    launch = settings.launch
    assert isinstance(launch, RemoteSettings)
    assert launch.attach is not None
    region = launch.region or sdk.configured_region()
    if not region:
        raise UserError("launch.region: is missing: set it to the region that the tuner runs in")
    return follow_tuner(launch.attach, sdk.boto_session(region), settings)


def follow_tuner(
    name: str,
    session: Any,
    settings: Settings,
    *,
    again: Again | None = None,
    sleep: Callable[[float], None] = time.sleep,
    show: Show | None = None,
) -> float | None:
    """Wait for a tuning job, fetch the artifact of its best job and return that one's objective.

    Args:
        session: of boto3, with the tuner's region.
        again: returns the command that runs the job with these values again; None takes the job's hyperparameters.

    Raises:
        UserError: no job came to a result, or AWS refuses to tell.
        RetryError: the service is out of reach for minutes.
        StoppedError: Ctrl-C; the jobs run on.
    """
    launch, show = settings.launch, show or _print
    assert isinstance(launch, RemoteSettings)
    watch = _Watch(name, session, show, sleep)
    try:
        found = watch.until_ended()
    except KeyboardInterrupt:
        raise StoppedError(hints(name, session.region_name), signal.SIGINT) from None
    best, status = found.get("BestTrainingJob"), found["HyperParameterTuningJobStatus"]
    if best is None:
        reason = found.get("FailureReason", "").strip() or f"none of its jobs came to a result ({_counts(found)})"
        raise UserError(f"tuner {name}: {status}: {reason}")
    metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
    values = dict(text.split("=", 1) for text in unpack(best["TunedHyperParameters"]))
    show(f"{status}: {_counts(found)}")
    show(f"best job:    {best['TrainingJobName']}, {metric['MetricName']} {metric['Value']:.7g}")
    show(f"its values:  {' '.join(f'{key}={text}' for key, text in values.items())}")
    show(f"again:       {again(values) if again else _command(found, values)}")
    if not launch.download:
        return float(metric["Value"])
    _fetch(best["TrainingJobName"], session, settings, show)
    key = next(key for key, name in METRIC_NAMES.items() if name == metric["MetricName"])
    return objective(Path(settings.paths.output_dir), key)


def hints(name: str, region: str) -> str:
    """Say how to come back to a tuning job that runs on, and how to end it."""
    option = f"--hyper-parameter-tuning-job-name {name} --region {region}"
    return (
        f"tuner {name} runs on\n"
        f"  follow it: python train.py launch=sagemaker launch.tuner=true launch.attach={name} launch.region={region}\n"
        f"  look:      aws sagemaker describe-hyper-parameter-tuning-job {option}\n"
        f"  stop it:   aws sagemaker stop-hyper-parameter-tuning-job {option}"
    )


def _print(line: str) -> None:
    print(line, flush=True)


class _Watch:
    """Looks at a tuning job every half minute and shows what is new."""

    def __init__(self, name: str, session: Any, show: Show, sleep: Callable[[float], None]) -> None:
        self.name = name
        self._client = session.client("sagemaker")
        self._region = session.region_name
        self._show, self._sleep = show, sleep
        self._shown = ""

    def until_ended(self) -> Mapping[str, Any]:
        """Return its description once it has ended."""
        failures = 0
        while True:
            try:
                found = self._look()
            except RetryError as error:
                failures += 1
                if failures == 1:
                    self._show(f"{error}; the jobs are not affected")
                if failures > _FAILURES:
                    raise RetryError(f"{error}\n{hints(self.name, self._region)}") from error
            else:
                failures = 0
                if found["HyperParameterTuningJobStatus"] in ENDED:
                    return found
            self._sleep(_SECONDS)

    def _look(self) -> Mapping[str, Any]:
        with refusals(f"launch.attach: tuner {self.name} in {self._region}"):
            found: Mapping[str, Any] = self._client.describe_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=self.name
            )
        line = _counts(found)
        if best := found.get("BestTrainingJob"):
            metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
            line += f"; best {metric['MetricName']} {number(metric['Value'])} ({best['TrainingJobName']})"
        if line != self._shown:
            self._shown = line
            self._show(f"{time.strftime('%H:%M:%S')} {line}")
        return found


def _counts(found: Mapping[str, Any]) -> str:
    counters = found["TrainingJobStatusCounters"]
    names = {
        "Completed": "completed",
        "InProgress": "running",
        "Stopped": "stopped",
        "NonRetryableError": "failed",
        "RetryableError": "to be tried again",
    }
    told = [f"{counters[key]} {name}" for key, name in names.items() if counters.get(key)]
    most = found["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    return f"of {most} jobs: {', '.join(told) or 'none has begun'}"


def _command(found: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """Return a command made of the job's own hyperparameters; data and places are for the reader to give."""
    static = dict(found["TrainingJobDefinition"].get("StaticHyperParameters", {}))
    packed = static.get(PACKED_KEY, "")
    file = packed.strip('"').removeprefix("file:") if "file:" in packed else ""
    if file:
        del static[PACKED_KEY]
    command = shlex.join(["python", "train.py", *unpack({**static, **values})])
    return f"{command} (and what is in {file} of the job's source)" if file else command


def _fetch(job: str, session: Any, settings: Settings, show: Show) -> None:
    with refusals(f"job {job}"):
        found = session.client("sagemaker").describe_training_job(TrainingJobName=job)
    artifact = found["ModelArtifacts"]["S3ModelArtifacts"]
    show(f"artifact:    {artifact}")
    download(artifact, session.client("s3"), Path(settings.paths.output_dir), settings.paths.model, show)
