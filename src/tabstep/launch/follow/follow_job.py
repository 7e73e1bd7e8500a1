"""Follows a training job: what it does, its epochs as they come, why it failed, what it cost, where its model is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from tabstep.config.settings import Settings
from tabstep.errors import RetryError, UserError
from tabstep.launch.follow.job_log import JobLog
from tabstep.launch.follow.watch import (
    ENDED,
    THEIR_FAULT,
    Show,
    Sleep,
    attach_command,
    coming_back,
    fetch,
    print_line,
    until_ended,
)
from tabstep.launch.request import cost, sdk
from tabstep.launch.s3.aws_errors import refusals
from tabstep.log_lines import duration

_SECONDS: Final = 10.0
_LATE: Final = 3  # looks at the log after the end: its last lines come late


def follow(
    name: str, session: Any, settings: Settings, *, sleep: Sleep = time.sleep, show: Show = print_line
) -> float | None:
    """Wait for a job, fetch its artifact and return the objective's value where the report has it.

    Args:
        session: of boto3, with the job's region.

    Raises:
        UserError: the job failed or was stopped, or AWS refuses to tell.
        RetryError: the service was at fault or is out of reach, or the credentials have expired while the job runs on.
        StoppedError: Ctrl-C; the job runs on.
    """
    remote, region = settings.remote, session.region_name
    prices = cost.load_prices(remote.prices)  # a mistake in them is told now, and not after hours
    view = _JobView(name, session, show, sleep)
    description = until_ended(
        view.look, lambda: hints(name, region, view.output_path), seconds=_SECONDS, show=show, sleep=sleep
    )
    _show_bill(description, region, prices, show)
    if description["TrainingJobStatus"] != "Completed":
        raise _failure(name, description, view.log.tail, show)
    show(f"artifact: {description['ModelArtifacts']['S3ModelArtifacts']}")
    if not remote.download:
        return None
    with coming_back(lambda: f"job {name} has ended\n  fetch it: {attach_command(name, region)}"):
        return fetch(description, session, settings.paths, settings.objective, show)


def hints(name: str, region: str, output_path: str) -> str:
    """Say how to come back to a job that runs on, how to end it, and where its artifact will be."""
    place = f"{output_path.rstrip('/')}/{name}/output/model.tar.gz" if output_path else "below its output path"
    return (
        f"job {name} runs on\n"
        f"  follow it: {attach_command(name, region)}\n"
        f"  stop it:   aws sagemaker stop-training-job --training-job-name {name} --region {region}\n"
        f"  artifact:  {place}"
    )


class _JobView:
    """What has been shown of a job: each look shows what is new."""

    def __init__(self, name: str, session: Any, show: Show, sleep: Sleep) -> None:
        self.name = name
        self.output_path = ""
        self.log = JobLog(sdk.client(session, "logs"), name)
        self._client = sdk.client(session, "sagemaker")
        self._region = session.region_name
        self._show, self._sleep = show, sleep
        self._seen: set[tuple[str, str]] = set()

    def look(self) -> Mapping[str, Any] | None:
        """Return the job's description once it has ended."""
        with refusals(f"launch.attach: job {self.name} in {self._region}"):
            description: Mapping[str, Any] = self._client.describe_training_job(TrainingJobName=self.name)
        self.output_path = description["OutputDataConfig"]["S3OutputPath"]
        for step in description.get("SecondaryStatusTransitions", []):
            known = (f"{step['Status']} {step['StartTime']}", step.get("StatusMessage", ""))
            if known not in self._seen:
                self._seen.add(known)
                self._show(f"{step['StartTime'].astimezone():%H:%M:%S} {step['Status']}: {known[1]}".rstrip(": "))
        self._show_lines()
        if description["TrainingJobStatus"] not in ENDED:
            return None
        for _ in range(_LATE):
            self._sleep(_SECONDS / 5)
            self._show_lines()
        return description

    def _show_lines(self) -> None:
        for line in self.log.epoch_lines():
            self._show(line)
        if self.log.refused:
            self._show(f"{self.log.refused}; the epochs cannot be shown")
            self.log.refused = ""


def _show_bill(description: Mapping[str, Any], region: str, prices: cost.Prices, show: Show) -> None:
    spent = cost.billed(description, region, prices)
    trained, billable = (int(description.get(f"{kind}TimeInSeconds", 0)) for kind in ("Training", "Billable"))
    show(f"{description['TrainingJobStatus']} after {duration(trained)}; billed {billable} s an instance: {spent}")
    saving = cost.spot_saving(description)
    if saving is not None:
        show(f"spot saved {saving:.0%}")


def _failure(name: str, description: Mapping[str, Any], tail: list[str], show: Show) -> Exception:
    """Return why a job has no model, after showing the end of its log where the service knows no reason."""
    reason = description.get("FailureReason", "").strip()
    status = description.get("SecondaryStatus", "")
    if description["TrainingJobStatus"] == "Stopped":
        return UserError(f"job {name}: {_stopped(status)}{_checkpoints(description)}")
    if reason.startswith(THEIR_FAULT):
        return RetryError(f"job {name} failed: {reason}{_checkpoints(description)}")
    if "ErrorMessage" not in reason:
        for line in tail:
            show(f"  {line}")
    return UserError(f"job {name} failed: {reason or 'the service gives no reason'}")


def _stopped(status: str) -> str:
    known = {
        "MaxRuntimeExceeded": "launch.max_run is over: set it higher",
        "MaxWaitTimeExceeded": "launch.max_wait is over, the service found no spot capacity in time: set it higher",
    }
    return known.get(status, "was stopped by someone")


def _checkpoints(description: Mapping[str, Any]) -> str:
    place = description.get("CheckpointConfig", {}).get("S3Uri")
    return f"; launch.checkpoint_path={place} goes on from its checkpoints" if place else ""
