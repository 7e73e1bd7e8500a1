"""Follows a tuning job: how many of its jobs have ended, the best so far, and at the end how to run that one again."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tabstep.config.settings import Settings
from tabstep.container.hyperparameters import PACKED_KEY, unpack
from tabstep.errors import UserError
from tabstep.launch.follow.watch import ENDED, Show, Sleep, attach_command, coming_back, fetch, print_line, until_ended
from tabstep.launch.request import sdk
from tabstep.launch.s3.aws_errors import refusals
from tabstep.log_lines import METRIC_NAMES, number

_SECONDS: Final = 30.0
_TUNER: Final = "launch.tuner=true"

Again = Callable[[Mapping[str, str]], str]


def follow_tuner(
    name: str,
    session: Any,
    settings: Settings,
    *,
    again: Again | None = None,
    sleep: Sleep = time.sleep,
    show: Show = print_line,
) -> float | None:
    """Wait for a tuning job, fetch the artifact of its best job and return that one's objective.

    Args:
        session: of boto3, with the tuner's region.
        again: returns the command that runs the job with these values again; None takes the job's hyperparameters.

    Raises:
        UserError: no job came to a result, or AWS refuses to tell.
        RetryError: the service is out of reach for minutes, or the credentials have expired; the jobs run on.
        StoppedError: Ctrl-C; the jobs run on.
    """
    region = session.region_name
    view = _TunerView(name, session, show)
    description = until_ended(view.look, lambda: hints(name, region), seconds=_SECONDS, show=show, sleep=sleep)
    best, status = description.get("BestTrainingJob"), description["HyperParameterTuningJobStatus"]
    if best is None:
        reason = description.get("FailureReason", "").strip()
        reason = reason or f"none of its jobs came to a result ({_counts(description)})"
        raise UserError(f"tuner {name}: {status}: {reason}")
    metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
    values = dict(text.split("=", 1) for text in unpack(best["TunedHyperParameters"]))
    show(f"{status}: {_counts(description)}")
    show(f"best job:    {best['TrainingJobName']}, {metric['MetricName']} {metric['Value']:.7g}")
    show(f"its values:  {' '.join(f'{key}={text}' for key, text in values.items())}")
    show(f"again:       {again(values) if again else _command(description, values)}")
    if not settings.remote.download:
        return float(metric["Value"])
    score = {shown: key for key, shown in METRIC_NAMES.items()}.get(metric["MetricName"], metric["MetricName"])
    with coming_back(lambda: f"tuner {name} has ended\n  fetch it: {attach_command(name, region, _TUNER)}"):
        with refusals(f"job {best['TrainingJobName']}"):
            job = sdk.client(session, "sagemaker").describe_training_job(TrainingJobName=best["TrainingJobName"])
        show(f"artifact:    {job['ModelArtifacts']['S3ModelArtifacts']}")
        return fetch(job, session, settings.paths, score, show)


def hints(name: str, region: str) -> str:
    """Say how to come back to a tuning job that runs on, and how to end it."""
    option = f"--hyper-parameter-tuning-job-name {name} --region {region}"
    return (
        f"tuner {name} runs on\n"
        f"  follow it: {attach_command(name, region, _TUNER)}\n"
        f"  look:      aws sagemaker describe-hyper-parameter-tuning-job {option}\n"
        f"  stop it:   aws sagemaker stop-hyper-parameter-tuning-job {option}"
    )


class _TunerView:
    """What has been shown of a tuning job: each look shows what is new."""

    def __init__(self, name: str, session: Any, show: Show) -> None:
        self.name = name
        self._client = sdk.client(session, "sagemaker")
        self._region = session.region_name
        self._show = show
        self._shown = ""

    def look(self) -> Mapping[str, Any] | None:
        """Return the tuning job's description once it has ended."""
        with refusals(f"launch.attach: tuner {self.name} in {self._region}"):
            description: Mapping[str, Any] = self._client.describe_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=self.name
            )
        line = _counts(description)
        if best := description.get("BestTrainingJob"):
            metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
            line += f"; best {metric['MetricName']} {number(metric['Value'])} ({best['TrainingJobName']})"
        if line != self._shown:
            self._shown = line
            self._show(f"{time.strftime('%H:%M:%S')} {line}")
        return description if description["HyperParameterTuningJobStatus"] in ENDED else None


def _counts(description: Mapping[str, Any]) -> str:
    counters = description["TrainingJobStatusCounters"]
    names = {
        "Completed": "completed",
        "InProgress": "running",
        "Stopped": "stopped",
        "NonRetryableError": "failed",
        "RetryableError": "to be tried again",
    }
    told = [f"{counters[key]} {name}" for key, name in names.items() if counters.get(key)]
    most = description["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    return f"of {most} jobs: {', '.join(told) or 'none has begun'}"


def _command(description: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """Return a command made of the job's own hyperparameters; data and places are for the reader to give."""
    static = dict(description["TrainingJobDefinition"].get("StaticHyperParameters", {}))
    packed = static.get(PACKED_KEY, "")
    file = packed.strip('"').removeprefix("file:") if "file:" in packed else ""
    if file:
        del static[PACKED_KEY]
    command = shlex.join(["python", "train.py", *unpack({**static, **values})])
    return f"{command} (and what is in {file} of the job's source)" if file else command
