"""One training job as plain values: what is asked of the service, whichever SDK asks it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.errors import UserError
from tabstep.launch.request.images import image_uri
from tabstep.launch.request.instances import distributed, is_gpu
from tabstep.log_lines import METRIC_REGEXES, extra_regex
from tabstep.registry import metric_key

InputMode = Literal["File", "FastFile"]
NO_CHECKPOINTS = "none"
_SAME = (  # as the configuration has them
    "framework_version", "py_version", "entry_point", "instance_type", "instance_count", "volume_size", "max_run",
    "spot", "keep_alive", "input_mode", "sharded", "volume_kms_key", "output_kms_key", "network_isolation",
    "encrypt_inter_container", "debugger", "request",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A SageMaker training job; nothing in it has been sent, and nothing is looked up to make it.

    Sizes are in GB, times in seconds. ``hyperparameters`` are the texts that the job gets back as overrides (see
    ``tabstep.container.hyperparameters``), without those that the SDK adds for the container. An empty mapping of
    ``channels`` is a job on the built-in table.
    """

    job_name: str
    role: str
    region: str
    image_uri: str | None = None  # None: the SDK's own image of framework_version and py_version
    framework_version: str | None = None
    py_version: str | None = None
    entry_point: str = "train.py"
    bundle_uri: str  # s3://…/sourcedir.tar.gz
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metric_definitions: Mapping[str, str] = field(default_factory=dict)  # metric name: regex

    instance_type: str
    instance_count: int = 1
    volume_size: int = 30
    max_run: int
    spot: bool = False
    max_wait: int | None = None  # spot only: waiting and running together
    keep_alive: int | None = None  # warm pool
    distributed: bool = False  # torchrun, one process a GPU

    input_path: str | None = None  # above the channels; None where each channel has an address of its own
    channels: Mapping[str, str] = field(default_factory=dict)  # train, val, test: s3:// addresses
    input_mode: InputMode = "File"
    sharded: bool = False  # each instance gets its own part of the train channel's objects
    output_path: str
    checkpoint_path: str | None

    subnets: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    volume_kms_key: str | None = None
    output_kms_key: str | None = None
    network_isolation: bool = False
    encrypt_inter_container: bool = False
    profiler_interval: int | None = 1000  # milliseconds between two system metrics; None turns the profiler off
    debugger: bool = False  # the SDK's debugger hook
    request: Mapping[str, Any] = field(default_factory=dict)  # further fields, as the service calls them


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What is sent with a job, known by content before anything is sent.

    ``channels`` are splits that lie on S3 already; ``local`` are those that will be sent, with the digest of all of
    their files. ``hyperparameters`` are the packed overrides; ``tags`` say what source the bundle was made of.
    """

    bundle_digest: str
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)
    local: tuple[str, ...] = ()
    data_digest: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def job_spec(
    settings: Settings, launch: RemoteSettings, payload: Payload, region: str, now: datetime.datetime
) -> JobSpec:
    """Complete the settings of a job with generated names and paths; nothing is looked up.

    What is missing or unknown stays empty: ``tabstep.launch.request.spec_problems`` names it, together with all else.

    Args:
        launch: what the settings say of it, or what takes its place in a rehearsal.
    """
    role = launch.role or ""
    job_name = launch.job_name or generated_name(f"{launch.prefix}-{settings.model.name}", now)
    root = generated_root(launch, role, region)
    checkpoints = launch.checkpoint_path or f"{root}/checkpoints/{job_name}"
    input_path = _input_path(launch, payload, root)
    max_wait = (launch.max_wait or 2 * launch.max_run) if launch.spot else launch.max_wait
    arn = {"CA_REPOSITORY_ARN": launch.ca_repository_arn} if launch.ca_repository_arn else {}
    return JobSpec(
        job_name=job_name,
        role=role,
        region=region,
        image_uri=launch.image_uri or _image(launch, region),
        bundle_uri=f"{root}/bundles/{payload.bundle_digest[:16]}/sourcedir.tar.gz",
        hyperparameters=dict(payload.hyperparameters),
        environment={**arn, **launch.environment},
        tags={**payload.tags, **launch.tags},
        metric_definitions=dict(METRIC_REGEXES) | added_regexes(settings),
        max_wait=max_wait,
        distributed=distributed(launch.instance_type, launch.instance_count, settings.trainer.devices),
        input_path=input_path,
        channels=_channels(launch, payload, input_path),
        output_path=launch.output_path or f"{root}/output/{now:%Y-%m-%d}",
        checkpoint_path=None if checkpoints == NO_CHECKPOINTS else checkpoints,
        subnets=tuple(launch.subnets),
        security_group_ids=tuple(launch.security_group_ids),
        profiler_interval=1000 if launch.profiler else None,
        **{name: getattr(launch, name) for name in _SAME},
    )


def generated_root(launch: RemoteSettings, role: str, region: str) -> str:
    """Return the address above all that is generated."""
    return f"s3://{_bucket(launch, role, region)}/{launch.prefix}"


def generated_name(stem: str, now: datetime.datetime) -> str:
    """Return a job's name from its stem and the time: letters, digits and single dashes, at most 63.

    >>> generated_name("tab_step-mlp", datetime.datetime(2026, 11, 21, 8, 5, 9, 42000))
    'tab-step-mlp-20261121-080509-042'
    """
    clean = re.sub(r"[^a-zA-Z0-9]+", "-", stem)[:40].strip("-")
    return f"{clean or 'job'}-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an address, the key without slashes around it.

    >>> split_uri("s3://bucket/a/_b/dt=2025-01-01/")
    ('bucket', 'a/_b/dt=2025-01-01')
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key.strip("/")


def _image(launch: RemoteSettings, region: str) -> str | None:
    if launch.framework_version is not None or launch.py_version is not None:
        return None
    try:
        return image_uri(launch.torch, "gpu" if is_gpu(launch.instance_type) else "cpu", region)
    except UserError:
        return None


def _bucket(launch: RemoteSettings, role: str, region: str) -> str:
    """The bucket that was named, that of a path, or the one that SageMaker makes for each account and region."""
    named = [
        split_uri(path)[0] for path in (launch.output_path, launch.input_path) if path and path.startswith("s3://")
    ]
    account = (role.split(":") + [""] * 5)[4]
    return launch.bucket or next(iter(named), f"sagemaker-{region}-{account}")


def _input_path(launch: RemoteSettings, payload: Payload, root: str) -> str | None:
    """Return where splits are sent to, or where they all are when nothing else says where the data is."""
    if payload.local:
        return launch.input_path or f"{root}/input/{payload.data_digest[:16]}"
    return None if payload.channels else launch.input_path


def _channels(launch: RemoteSettings, payload: Payload, input_path: str | None) -> dict[str, str]:
    if input_path is None:
        return dict(payload.channels)
    below = {split: f"{input_path.rstrip('/')}/{split}/" for split in payload.local or launch.channels}
    return {**payload.channels, **below}


def added_regexes(settings: Settings) -> dict[str, str]:
    """Return what finds the scores of ``metrics.extra`` in a job's log; the objective may be that of one class."""
    names = [f"val_{metric_key(part.name)}" for part in settings.metrics.extra]
    watched = [settings.objective] if any(settings.objective.startswith(f"{name}_") for name in names) else []
    return {name: extra_regex(name) for name in (*names, *watched)}
