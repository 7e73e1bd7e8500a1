"""Specs and a request that do not depend on the day, the machine or the checkout."""

from __future__ import annotations

import datetime
import io
import tarfile
from dataclasses import replace
from functools import cache
from typing import Any

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import RemoteSettings, Settings
from tabstep.entry import config_dir
from tabstep.launch.request.job_spec import JobSpec, Payload, job_spec
from tabstep.launch.source.bundle import Bundle
from tabstep.log_lines import METRIC_REGEXES, epoch_line

ROLE = "arn:aws:iam::123456789012:role/job"
NOW = datetime.datetime(2026, 11, 21, 8, 5, 9, 42000, tzinfo=datetime.UTC)
BUNDLE = Bundle(data=b"x", files={"train.py": 1}, digest="b" * 64, commit="c" * 40, changed=(), changes_digest=None)
PAYLOAD = Payload(
    bundle_digest="b" * 64,
    hyperparameters={"model": "resnet", "optimizer.lr": "0.0003"},
    local=("train", "val", "test"),
    data_digest="d" * 64,
    tags={"tabstep:commit": "c" * 40, "tabstep:changes": "none"},
)
REQUEST: dict[str, Any] = {
    "TrainingJobName": "job-1",
    "HyperParameters": {"model": '"resnet"', "sagemaker_region": '"eu-west-1"', "sagemaker_submit_directory": '"x"'},
    "AlgorithmSpecification": {
        "TrainingImage": "image:1",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRIC_REGEXES.items()],
    },
    "ResourceConfig": {"InstanceType": "ml.g5.12xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "InputDataConfig": [
        {"ChannelName": "train", "InputMode": "FastFile", "DataSource": {"S3DataSource": {"S3Uri": "s3://b/train/"}}}
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://b/out/"},
    "CheckpointConfig": {"S3Uri": "s3://b/checkpoints/"},
    "Environment": {"MINE": "1"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
EPOCH = epoch_line({"epoch": 1, "train_loss": 0.5, "train_accuracy": 0.8, "val_loss": 0.4})


def settings_of(*overrides: str, **launch: Any) -> Settings:
    """Return settings of a job in eu-west-1 with a role and a bucket."""
    settings = _composed(overrides)
    assert isinstance(settings.launch, RemoteSettings)
    own = {"role": ROLE, "region": "eu-west-1", "bucket": "my-bucket", **launch}
    return replace(settings, launch=replace(settings.launch, **own))


def remote_of(settings: Settings) -> RemoteSettings:
    assert isinstance(settings.launch, RemoteSettings)
    return settings.launch


def spec_of(settings: Settings, payload: Payload = PAYLOAD) -> JobSpec:
    remote = remote_of(settings)
    return job_spec(settings, remote, payload, remote.region or "", NOW)


def archive(files: dict[str, bytes]) -> bytes:
    """Return a ``.tar.gz`` of files by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@cache
def _composed(overrides: tuple[str, ...]) -> Settings:
    return parse(composed(["launch=dry_run", *overrides], [config_dir()]))
