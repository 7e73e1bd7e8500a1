"""Sends a prepared job: its source, its data, then the one request; and follows it if that is asked for."""

from __future__ import annotations

from typing import Any

from tabstep.config.settings import Settings
from tabstep.launch.follow.follow_job import follow, hints
from tabstep.launch.prepare_job import Job
from tabstep.launch.request import sdk
from tabstep.launch.request.job_spec import split_uri
from tabstep.launch.s3.aws_errors import refusals
from tabstep.launch.s3.channels import check_channels
from tabstep.launch.s3.transfer import put_bytes
from tabstep.launch.s3.upload import upload
from tabstep.system.exits import say


def submit(settings: Settings, job: Job) -> float | None:
    """Send a job and return the objective's value, if the job is waited for and its artifact fetched.

    Everything is sent before the request, and under names that its content decides: the same command after a failure
    sends only what is missing.

    Raises:
        UserError: AWS refuses, or the job has failed.
        RetryError: AWS is out of reach.
        StoppedError: Ctrl-C while following; the job runs on.
    """
    spec = job.spec
    session = sdk.boto_session(spec.region)
    check_sources(settings, job, session)
    send(job, session)
    say(f"job: {spec.job_name} was started")
    if not settings.remote.wait:
        say(hints(spec.job_name, spec.region, spec.output_path))
        return None
    return follow(spec.job_name, session, settings)


def check_sources(settings: Settings, job: Job, session: Any) -> None:
    """Look at the tables of a job that lie on S3 already, with a session of boto3.

    Raises:
        UserError: one is missing, or lacks a declared column.
    """
    check_channels(
        {split: uri for split, uri in job.spec.channels.items() if split not in job.plan.files},
        settings.schema,
        sdk.client(session, "s3"),
        hive=settings.data.partitioning == "hive",
    )


def send(job: Job, session: Any) -> None:
    """Send what a job needs, then the request that was checked, as it is."""
    send_parts(job, session)
    # Not by the SDK's `fit`, which would render the request again: it would be another than was checked and priced.
    with refusals(f"job {job.spec.job_name}"):
        sdk.client(session, "sagemaker").create_training_job(**job.request)


def send_parts(job: Job, session: Any) -> None:
    """Send the source and the data of a job, as far as they are not there yet."""
    s3, uri = sdk.client(session, "s3"), job.spec.bundle_uri
    sent = put_bytes(s3, job.bundle.data, *split_uri(uri))
    say(f"source: {len(job.bundle.data) / 1e3:.1f} kB {'sent to' if sent else 'are already at'} {uri}")
    if job.plan.files:
        upload(job.plan, job.spec.channels, s3, say)
