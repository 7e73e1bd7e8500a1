"""Keys of the group ``launch``: where a run takes place, and what a SageMaker job or a Ray cluster is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tabstep.option_types import Count, Doc, Index, Positive, Range


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """Runs here."""

    name: Literal["local"] = "local"


@dataclass(frozen=True, kw_only=True)
class RemoteSettings:
    """Runs as a SageMaker training job, or does all but that."""

    name: Literal["sagemaker", "dry_run", "rehearsal"] = "sagemaker"
    role: Annotated[str | None, Doc("ARN of the role that the job takes on")]
    region: Annotated[str | None, Doc("AWS region; null asks the AWS configuration of this machine")]
    bucket: Annotated[str | None, Doc("bucket for what is sent; null is that of output_path, else SageMaker's own")]
    prefix: Annotated[str, Doc("first part of every generated path in the bucket")] = "tabstep"
    job_name: Annotated[str | None, Doc("name of the job; null is made of model and time")] = None
    input_path: Annotated[str | None, Doc("s3:// directory with train/, val/ and test/; local data is sent to it")] = (
        None
    )
    output_path: Annotated[str | None, Doc("s3:// directory of the artifact; null is made of bucket and date")] = None
    checkpoint_path: Annotated[str | None, Doc("s3:// directory; null is made of bucket and job, none keeps none")] = (
        None
    )
    channels: Annotated[list[Literal["train", "val", "test"]], Doc("splits that input_path has")] = field(
        default_factory=lambda: ["train", "val", "test"]
    )
    input_mode: Annotated[Literal["File", "FastFile"], Doc("FastFile streams the tables instead of copying them")] = (
        "File"
    )
    sharded: Annotated[
        bool, Doc("each instance fetches its own part of train's files, and gets the others' from them")
    ] = False
    instance_type: Annotated[str, Doc("such as ml.m5.xlarge (CPU) or ml.g5.xlarge (one GPU)")] = "ml.g5.12xlarge"
    instance_count: Annotated[Count, Doc("instances; several need trainer.devices=auto")] = 1
    volume_size: Annotated[Count, Doc("disk in GB; instances with a disk of their own ignore it")] = 30
    max_run: Annotated[Count, Doc("seconds after which the service stops the job")] = 86400
    spot: Annotated[bool, Doc("cheaper capacity that may be interrupted; the job goes on from its checkpoint")] = False
    max_wait: Annotated[Count | None, Doc("spot: seconds of waiting and running; null is twice max_run")] = None
    keep_alive: Annotated[Index | None, Doc("warm pool: seconds that the instances stay for the next job")] = None
    torch: Annotated[str, Doc("torch version of the image, as 2.13")] = "2.13"
    image_uri: Annotated[str | None, Doc("an image of your own")] = None
    framework_version: Annotated[str | None, Doc("the SDK's own image of this PyTorch version instead")] = None
    py_version: Annotated[str | None, Doc("its Python, as py312")] = None
    source_dir: Annotated[str | None, Doc("directory with train.py, conf/ and src/; null is this checkout")] = None
    entry_point: Annotated[str, Doc("the script in it")] = "train.py"
    list_bundle: Annotated[bool, Doc("lists the files that are sent")] = False
    environment: Annotated[dict[str, str], Doc("environment variables of the job")] = field(default_factory=dict)
    tags: Annotated[dict[str, str], Doc("tags of the job")] = field(default_factory=dict)
    subnets: Annotated[list[str], Doc("VPC subnets")] = field(default_factory=list)
    security_group_ids: Annotated[list[str], Doc("VPC security groups")] = field(default_factory=list)
    volume_kms_key: Annotated[str | None, Doc("KMS key of the instances' disks")] = None
    output_kms_key: Annotated[str | None, Doc("KMS key of the artifact")] = None
    network_isolation: Annotated[bool, Doc("no network in the job: needs an image with all packages")] = False
    encrypt_inter_container: Annotated[bool, Doc("encrypts what instances tell each other")] = False
    profiler: Annotated[bool, Doc("system metrics every second to the output path")] = True
    debugger: Annotated[bool, Doc("the debugger's hook")] = False
    request: Annotated[dict[str, Any], Doc("further fields of CreateTrainingJob, as the service calls them")] = field(
        default_factory=dict
    )
    ca_repository_arn: Annotated[str | None, Doc("CodeArtifact repository that the job installs from")]
    max_usd: Annotated[Positive | None, Doc("refuses a job that could cost more")] = None
    prices: Annotated[
        str | None, Doc("YAML file of prices by region and instance type; null is the built-in table")
    ] = None
    wait: Annotated[bool, Doc("follows the job until it ends")] = True
    download: Annotated[bool, Doc("then fetches the artifact into paths.output_dir")] = True
    attach: Annotated[str | None, Doc("name of a job that runs already: follows it, sends nothing")] = None
    tuner: Annotated[bool, Doc("-m: one tuning job of the service does the whole sweep")] = False
    interrupt_after: Annotated[Count | None, Doc("rehearsal: epochs after which the capacity is taken away, once")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Runs on a Ray cluster: a worker is a rank, as a process of torchrun is."""

    name: Literal["ray"] = "ray"
    address: Annotated[str, Doc("local starts a cluster for this command; auto finds one here; or its host:port")] = (
        "local"
    )
    workers: Annotated[Count, Doc("ranks of the run, or of each trial of a sweep")] = 1
    cpus_per_worker: Annotated[Count, Doc("processors that are kept for a worker, and its threads")] = 1
    gpus_per_worker: Annotated[int, Range(ge=0, le=1), Doc("1 gives each worker a GPU of its own")] = 0
    max_failures: Annotated[Index, Doc("how often lost workers are started again; the run goes on from its state")] = 3
    runtime_env: Annotated[dict[str, Any], Doc("Ray's runtime environment: env_vars, pip, as Ray calls them")] = field(
        default_factory=dict
    )


LaunchSettings = LocalSettings | RemoteSettings | RaySettings
