"""Sends a prepared job: its source, its data, then the one request; and follows it if that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.exits import say
from tabstep.launch import render, sdk
from tabstep.launch.refusals import refusals
from tabstep.launch.spec import split_uri
from tabstep.launch.transfer import put_bytes
from tabstep.launch.upload import upload

if TYPE_CHECKING:
    from tabstep.launch.job import Job


def submit(settings: Settings, job: Job) -> float | None:
    """Send a job and return the objective's value, if the job is waited for and its artifact fetched.

    Everything is sent before the request, and under names that its content decides: the same command after a failure
    sends only what is missing.

    Raises:
        UserError: AWS refuses, or the job has failed.
        RetryError: AWS is out of reach.
        StoppedError: Ctrl-C while following; the job runs on.
    """
    from tabstep.launch.follow import follow, hints

    launch, spec = settings.launch, job.spec
    assert isinstance(launch, RemoteSettings)
    session = sdk.session(spec.region, bucket=split_uri(spec.bundle_uri)[0])
    send(job, session)
    say(f"job: {spec.job_name} was started")
    if not launch.wait:
        say(hints(spec.job_name, spec.region, spec.output_path))
        return None
    return follow(spec.job_name, session.boto_session, settings)


def send(job: Job, session: Any) -> None:
    """Send what a job needs, then the job itself."""
    spec = job.spec
    bucket, key = split_uri(spec.bundle_uri)
    s3 = session.boto_session.client("s3")
    sent = put_bytes(s3, job.bundle.data, bucket, key)
    say(f"source: {len(job.bundle.data) / 1e3:.1f} kB {'sent to' if sent else 'are already at'} {spec.bundle_uri}")
    if job.plan.files:
        upload(job.plan, spec.channels, s3, say)
    with refusals(f"job {spec.job_name}"), sdk.quiet():
        render.estimator(spec, session).fit(inputs=render.inputs(spec), wait=False, job_name=spec.job_name)
