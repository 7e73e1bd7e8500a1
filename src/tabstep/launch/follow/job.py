"""Follows a training job: what it does, its epochs as they come, why it failed, what it cost, where its model is."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.launch.follow.job_log import JobLog
from tabstep.launch.request import cost, sdk
from tabstep.launch.s3.aws_errors import refusals
from tabstep.launch.s3.download import download, objective
from tabstep.log_lines import duration

ENDED: Final = ("Completed", "Failed", "Stopped")
_SECONDS: Final = 10.0
_FAILURES: Final = 60
_LATE: Final = 3  # looks at the log after the end: its last lines come late
_THEIR_FAULT: Final = ("CapacityError", "InternalServerError")

Show = Callable[[str], None]


def attach(settings: Settings) -> float | None:
    """Follow the job ``launch.attach`` from its beginning to its end; see ``follow``."""
    launch = settings.launch
    assert isinstance(launch, RemoteSettings)
    assert launch.attach is not None
    region = launch.region or sdk.configured_region()
    if not region:
        raise UserError("launch.region: is missing: set it to the region that the job runs in")
    return follow(launch.attach, sdk.boto_session(region), settings)


def follow(
    name: str,
    session: Any,
    settings: Settings,
    *,
    sleep: Callable[[float], None] = time.sleep,
    show: Show | None = None,
) -> float | None:
    """Wait for a job, fetch its artifact and return the objective's value where the report has it.

    Args:
        session: of boto3, with the job's region.

    Raises:
        UserError: the job failed or was stopped, or AWS refuses to tell.
        RetryError: the service was at fault, or is out of reach for minutes.
        StoppedError: Ctrl-C; the job runs on.
    """
    launch, show = settings.launch, show or _print
    assert isinstance(launch, RemoteSettings)
    region = session.region_name
    prices = cost.load_prices(launch.prices)  # a mistake in them is told now, and not after hours
    watch = _Watch(name, session, show, sleep)
    try:
        description = watch.until_ended()
    except KeyboardInterrupt:
        raise StoppedError(hints(name, region, watch.output_path), signal.SIGINT) from None
    _show_bill(description, region, prices, show)
    if description["TrainingJobStatus"] != "Completed":
        raise _failure(name, description, watch.log.tail, show)
    artifact = description["ModelArtifacts"]["S3ModelArtifacts"]
    show(f"artifact: {artifact}")
    if not launch.download:
        return None
    download(artifact, session.client("s3"), Path(settings.paths.output_dir), settings.paths.model, show)
    return objective(Path(settings.paths.output_dir), settings.objective)


def hints(name: str, region: str, output_path: str) -> str:
    """Say how to come back to a job that runs on, how to end it, and where its artifact will be."""
    place = f"{output_path.rstrip('/')}/{name}/output/model.tar.gz" if output_path else "below its output path"
    return (
        f"job {name} runs on\n"
        f"  follow it: python train.py launch=sagemaker launch.attach={name} launch.region={region}\n"
        f"  stop it:   aws sagemaker stop-training-job --training-job-name {name} --region {region}\n"
        f"  artifact:  {place}"
    )


def _print(line: str) -> None:
    print(line, flush=True)


class _Watch:
    """Looks at a job every few seconds and shows what is new."""

    def __init__(self, name: str, session: Any, show: Show, sleep: Callable[[float], None]) -> None:
        self.name = name
        self.output_path = ""
        self.log = JobLog(session.client("logs"), name)
        self._client = session.client("sagemaker")
        self._region = session.region_name
        self._show, self._sleep = show, sleep
        self._seen: set[tuple[str, str]] = set()

    def until_ended(self) -> Mapping[str, Any]:
        """Return the job's description once it has ended."""
        failures = 0
        while True:
            try:
                description = self._look()
                failures = 0
            except RetryError as error:
                failures += 1
                if failures == 1:
                    self._show(f"{error}; the job is not affected")
                if failures > _FAILURES:
                    raise RetryError(f"{error}\n{hints(self.name, self._region, self.output_path)}") from error
                description = {"TrainingJobStatus": "Unknown"}
            if description["TrainingJobStatus"] in ENDED:
                for _ in range(_LATE):
                    self._sleep(_SECONDS / 5)
                    self._show_lines()
                return description
            self._sleep(_SECONDS)

    def _look(self) -> Mapping[str, Any]:
        with refusals(f"launch.attach: job {self.name} in {self._region}"):
            description: Mapping[str, Any] = self._client.describe_training_job(TrainingJobName=self.name)
        self.output_path = description["OutputDataConfig"]["S3OutputPath"]
        for step in description.get("SecondaryStatusTransitions", []):
            known = (f"{step['Status']} {step['StartTime']}", step.get("StatusMessage", ""))
            if known not in self._seen:
                self._seen.add(known)
                self._show(f"{step['StartTime'].astimezone():%H:%M:%S} {step['Status']}: {known[1]}".rstrip(": "))
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
    if reason.startswith(_THEIR_FAULT):
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
