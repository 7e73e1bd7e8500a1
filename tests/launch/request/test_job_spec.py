from __future__ import annotations

import dataclasses
import datetime
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.launch.jobs import PAYLOAD, ROLE, settings_of, spec_of

from tabstep.config.settings import MetricSettings
from tabstep.launch.request.job_spec import Payload, generated_name
from tabstep.log_lines import extra_line
from tabstep.registry import PluginSettings


def test_generated_paths_are_made_of_bucket_and_date() -> None:
    spec = spec_of(settings_of())
    assert spec.job_name == "tabstep-tabm-20261121-080509-042"
    assert spec.output_path == "s3://my-bucket/tabstep/output/2026-11-21"
    assert spec.checkpoint_path == f"s3://my-bucket/tabstep/checkpoints/{spec.job_name}"
    assert spec.input_path == "s3://my-bucket/tabstep/input/dddddddddddddddd"
    assert spec.channels["train"] == "s3://my-bucket/tabstep/input/dddddddddddddddd/train/"
    assert spec.bundle_uri == "s3://my-bucket/tabstep/bundles/bbbbbbbbbbbbbbbb/sourcedir.tar.gz"


@pytest.mark.parametrize(
    ("launch", "bucket"),
    [
        ({"bucket": "mine", "output_path": "s3://other/o"}, "mine"),
        ({"bucket": None, "output_path": "s3://other/o"}, "other"),
        ({"bucket": None, "input_path": "s3://in/i"}, "in"),
        ({"bucket": None}, "sagemaker-eu-west-1-123456789012"),
    ],
)
def test_bucket(launch: dict[str, str | None], bucket: str) -> None:
    assert spec_of(settings_of(**launch)).bundle_uri.startswith(f"s3://{bucket}/tabstep/bundles/")


def test_defaults_are_the_users() -> None:
    spec = spec_of(settings_of())
    assert (spec.instance_type, spec.instance_count, spec.volume_size) == ("ml.g5.12xlarge", 1, 30)
    assert (spec.entry_point, spec.spot, spec.max_wait, spec.max_run) == ("train.py", False, None, 86400)
    assert (spec.role, spec.region) == (ROLE, "eu-west-1")
    assert (spec.profiler_interval, spec.debugger, spec.distributed, spec.input_mode) == (1000, False, False, "File")


def test_scores_of_added_metrics_are_read_from_the_log() -> None:
    added = MetricSettings(extra=[PluginSettings(name="recall")])
    spec = spec_of(replace(settings_of(), metrics=added, objective="val_recall"))
    line = extra_line({"val_recall": 0.712345678, "val_auroc": 0.9})
    found = re.search(spec.metric_definitions["val_recall"], line)
    assert found is not None
    assert float(found[1]) == 0.7123457


def test_spot_waits_twice_the_run_unless_told_otherwise() -> None:
    assert spec_of(settings_of(spot=True, max_run=100)).max_wait == 200
    assert spec_of(settings_of(spot=True, max_run=100, max_wait=150)).max_wait == 150


@pytest.mark.parametrize(
    ("payload", "input_path", "channels"),
    [
        (Payload(bundle_digest="b"), None, {}),
        (Payload(bundle_digest="b"), "s3://b/i/", {split: f"s3://b/i/{split}/" for split in ("train", "val", "test")}),
        (Payload(bundle_digest="b", local=("train",), data_digest="d"), "s3://b/i/", {"train": "s3://b/i/train/"}),
        (Payload(bundle_digest="b", channels={"train": "s3://c/t/"}), None, {"train": "s3://c/t/"}),
        (
            Payload(bundle_digest="b", channels={"val": "s3://c/v/"}, local=("train",), data_digest="d"),
            "s3://b/i",
            {"train": "s3://b/i/train/", "val": "s3://c/v/"},
        ),
    ],
)
def test_channels(payload: Payload, input_path: str | None, channels: dict[str, str]) -> None:
    assert spec_of(settings_of(input_path=input_path), payload).channels == channels


def test_a_key_of_codeartifact_reaches_the_environment_unless_it_is_set_there() -> None:
    arn = "arn:aws:codeartifact:eu-west-1:123456789012:repository/d/r"
    assert spec_of(settings_of(ca_repository_arn=arn)).environment == {"CA_REPOSITORY_ARN": arn}
    assert spec_of(settings_of(ca_repository_arn="")).environment == {}  # a variable that is there and empty
    own = {"CA_REPOSITORY_ARN": f"{arn}2", "A": "b"}
    assert spec_of(settings_of(ca_repository_arn=arn, environment=own)).environment == own


def test_tags_of_the_source_and_of_the_user() -> None:
    tags = spec_of(settings_of(tags={"team": "risk"})).tags
    assert tags == {"tabstep:commit": "c" * 40, "tabstep:changes": "none", "team": "risk"}


@pytest.mark.parametrize(
    ("overrides", "launch", "distributed"),
    [
        ((), {}, False),
        (("trainer.devices=auto",), {}, True),
        (("trainer.devices=4",), {}, True),
        (("trainer.devices=auto",), {"instance_type": "ml.g5.xlarge"}, False),
        ((), {"instance_type": "ml.g5.xlarge", "instance_count": 2}, True),
        (("trainer.devices=2",), {"instance_type": "ml.m5.xlarge"}, False),
    ],
)
def test_torchrun_starts_several_gpus(overrides: tuple[str, ...], launch: dict[str, object], distributed: bool) -> None:
    assert spec_of(settings_of(*overrides, **launch)).distributed is distributed


def test_spec_is_frozen_and_pure() -> None:
    first, second = (spec_of(settings_of()) for _ in range(2))
    assert first == second
    assert replace(PAYLOAD) == PAYLOAD
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.job_name = "x"  # type: ignore[misc]


def test_no_checkpoints() -> None:
    assert spec_of(settings_of(checkpoint_path="none")).checkpoint_path is None


@given(st.text(), st.datetimes(datetime.datetime(2000, 1, 1)))
def test_generated_name_is_always_valid(stem: str, now: datetime.datetime) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", generated_name(stem, now))


def test_every_setting_has_an_effect_on_the_spec_or_the_launch() -> None:
    """A key without an effect is a lie: each changed setting gives another spec, or is one that acts elsewhere."""
    base = settings_of()
    elsewhere = {"name", "source_dir", "list_bundle", "max_usd", "prices", "wait", "download", "attach"}
    elsewhere |= {"interrupt_after", "tuner"}  # of the rehearsal, of a sweep
    changes = {
        "role": "arn:aws:iam::123456789012:role/other", "region": "us-east-1", "bucket": "other", "prefix": "p",
        "job_name": "n", "input_path": "s3://b/i", "output_path": "s3://b/o", "checkpoint_path": "s3://b/c",
        "channels": ["train"], "input_mode": "FastFile", "sharded": True, "instance_type": "ml.m5.large",
        "instance_count": 2, "volume_size": 31, "max_run": 1, "spot": True, "max_wait": 1, "keep_alive": 1,
        "torch": "2.12", "image_uri": "x", "framework_version": "2.8.0", "py_version": "py312", "entry_point": "e.py",
        "environment": {"a": "b"}, "tags": {"a": "b"}, "subnets": ["s"], "security_group_ids": ["s"],
        "volume_kms_key": "k", "output_kms_key": "k", "network_isolation": True, "encrypt_inter_container": True,
        "profiler": False, "debugger": True, "ca_repository_arn": "a", "request": {"a": "b"},
    }  # fmt: skip
    names = {field.name for field in dataclasses.fields(base.launch)}
    assert names - elsewhere == set(changes)
    payload = Payload(bundle_digest="b")
    for name, value in changes.items():
        given = {"input_path": "s3://b/in"} if name == "channels" else {}
        before, after = (spec_of(settings_of(**given, **own), payload) for own in ({}, {name: value}))
        assert before != after, name
