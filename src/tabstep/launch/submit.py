"""Sends a prepared job: its source, its data, then the one request; and follows it if that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.launch.request import render, sdk
from tabstep.launch.request.job_spec import split_uri
from tabstep.launch.request.validate import declared_columns
from tabstep.launch.s3.aws_errors import refusals
from tabstep.launch.s3.channels import check_channels
from tabstep.launch.s3.transfer import put_bytes
from tabstep.launch.s3.upload import upload
from tabstep.system.exits import say

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
    from tabstep.launch.follow.job import follow, hints

    launch, spec = settings.launch, job.spec
    assert isinstance(launch, RemoteSettings)
    session = sdk.session(spec.region, bucket=split_uri(spec.bundle_uri)[0])
    check_sources(settings, job, session)
    send(job, session)
    say(f"job: {spec.job_name} was started")
    if not launch.wait:
        say(hints(spec.job_name, spec.region, spec.output_path))
        return None
    return follow(spec.job_name, session.boto_session, settings)


def check_sources(settings: Settings, job: Job, session: Any) -> None:
    """Look at the tables of a job that lie on S3 already.

    Raises:
        UserError: one is missing, or lacks a declared column.
    """
    check_channels(
        {split: uri for split, uri in job.spec.channels.items() if split not in job.plan.files},
        declared_columns(settings.schema),
        session.boto_session.client("s3"),
        hive=settings.data.partitioning == "hive",
    )


def send(job: Job, session: Any) -> None:
    """Send what a job needs, then the job itself."""
    send_parts(job, session)
    spec = job.spec
    with refusals(f"job {spec.job_name}"), sdk.quiet():
        render.estimator(spec, session).fit(inputs=render.inputs(spec), wait=False, job_name=spec.job_name)


def send_parts(job: Job, session: Any) -> None:
    """Send the source and the data of a job, as far as they are not there yet."""
    spec = job.spec
    bucket, key = split_uri(spec.bundle_uri)
    s3 = session.boto_session.client("s3")
    sent = put_bytes(s3, job.bundle.data, bucket, key)
    say(f"source: {len(job.bundle.data) / 1e3:.1f} kB {'sent to' if sent else 'are already at'} {spec.bundle_uri}")
    if job.plan.files:
        upload(job.plan, spec.channels, s3, say)
