"""Local data reaches its place on S3 once, whole, and over nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import RemoteSettings, Settings
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.launch.s3 import transfer, upload

BUCKET = "tabstep-test"


def settings(*overrides: str) -> Settings:
    return parse(composed(["launch=sagemaker", *overrides], [config_dir()]))


def planned(*overrides: str) -> upload.UploadPlan:
    found = settings(*overrides)
    assert isinstance(found.launch, RemoteSettings)
    return upload.plan(found.data, found.launch)


def channels(plan: upload.UploadPlan, base: str = f"s3://{BUCKET}/in") -> dict[str, str]:
    return {split: f"{base}/{split}/" for split in plan.files}


def keys(s3: Any) -> dict[str, int]:
    return {item["Key"]: item["Size"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


class Recorded:
    """A client that counts its calls, and may fail at one of them."""

    def __init__(self, client: Any, *, fail: str = "", after: int = 0) -> None:
        self._client, self._fail, self._after = client, fail, after
        self.calls: list[str] = []
        self.checksums: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or name == "get_paginator":
            return found

        def call(**arguments: Any) -> Any:
            self.calls.append(name)
            if name == "upload_part":
                self.checksums.add(arguments["ChecksumAlgorithm"])
            if name == self._fail and self.calls.count(name) > self._after:
                raise ConnectionError("the cable was pulled")
            return found(**arguments)

        return call


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of two and a half parts, of S3's smallest size."""
    monkeypatch.setattr(transfer, "_PART", 5 * 2**20)
    file = tmp_path / "big.parquet"
    file.write_bytes(bytes(range(256)) * (50 * 2**10))
    return file


def test_splits_of_a_directory(tiny_data: Path) -> None:
    plan = planned(f"data.path={tiny_data}")
    assert {split: [source.name for source in sources] for split, sources in plan.files.items()} == {
        "train": ["train.parquet"],
        "val": ["val.parquet"],
        "test": ["test.parquet"],
    }
    assert plan.locations["val"].paths == (str(tiny_data / "val" / "val.parquet"),)
    assert plan.channels == {}
    assert plan.size == sum(path.stat().st_size for path in tiny_data.rglob("*.parquet"))


def test_digest_is_of_names_and_contents(tiny_data: Path, tmp_path: Path) -> None:
    train = (tiny_data / "train" / "train.parquet").read_bytes()
    names = ["a.parquet", "b.parquet"]
    digests = set()
    for number, contents in enumerate([(train, train), (train, train + b"x")]):
        directory = tmp_path / str(number)
        directory.mkdir()
        for name, content in zip(names, contents, strict=True):
            (directory / name).write_bytes(content)
        digests.add(planned(f"data.train={directory}").digest)
    assert len(digests) == 2
    copy = tmp_path / "copy"
    (tmp_path / "0").rename(copy)
    assert planned(f"data.train={copy}").digest in digests
    one = tmp_path / "any name.parq"
    one.write_bytes(train)
    plain = planned(f"data.train={tiny_data}/train/train.parquet").digest
    assert planned(f'data.train="{one}"').digest == plain
    assert planned(f"data.train='file://{tiny_data}/train/train.parquet'").digest == plain


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {}),
        (["data.path=s3://b/data"], {split: f"s3://b/data/{split}/" for split in ("train", "val", "test")}),
        (["data.path=s3://b/d/", "launch.channels=[train]"], {"train": "s3://b/d/train/"}),
        (["data.train='s3://b/dt=2025-01-01/_t'"], {"train": "s3://b/dt=2025-01-01/_t/"}),
        (["data.train=s3://b/t.parquet", "data.val=s3://b/v/"], {"train": "s3://b/t.parquet", "val": "s3://b/v/"}),
    ],
)
def test_data_on_s3_is_used_where_it_is(overrides: Sequence[str], expected: dict[str, str]) -> None:
    plan = planned(*overrides)
    assert (plan.channels, plan.files, plan.digest) == (expected, {}, "")


def test_mixed_places(tiny_data: Path) -> None:
    plan = planned("data.train=s3://b/t.parquet", f"data.val={tiny_data}/val")
    assert (plan.channels, list(plan.files)) == ({"train": "s3://b/t.parquet"}, ["val"])


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["data.train=gs://b/t"], "data.train: a job reads s3:// addresses"),
        (["data.train='s3://b/*.parquet'"], "data.train: a job cannot read a pattern"),
        (["data.train=/no/such"], "data.train: no such file or directory"),
        (["data.path=DATA", "data.val=s3://b/v"], "set data.train, data.val and data.test instead"),
    ],
)
def test_wrong_places(overrides: Sequence[str], reason: str, tiny_data: Path) -> None:
    with pytest.raises(UserError, match=reason.replace(".", r"\.")):
        planned(*(text.replace("DATA", str(tiny_data)) for text in overrides))


def test_sends_once(s3: Any, tiny_data: Path) -> None:
    plan = planned(f"data.path={tiny_data}")
    said: list[str] = []
    first, second = Recorded(s3), Recorded(s3)
    upload.upload(plan, channels(plan), first, said.append)
    assert keys(s3) == {
        f"in/{split}/{split}.parquet": (tiny_data / split / f"{split}.parquet").stat().st_size
        for split in ("train", "val", "test")
    }
    upload.upload(plan, channels(plan), second, said.append)
    assert first.calls.count("put_object") == 3
    assert "put_object" not in second.calls
    assert said[0].startswith("data: sent ")
    assert said[-1].endswith("in 3 files are on S3 already")


def test_many_files_keep_their_names(s3: Any, tiny_data: Path, tmp_path: Path) -> None:
    content = (tiny_data / "train" / "train.parquet").read_bytes()
    for name in ("day=2025-01-01/a.parquet", "day=2025-01-02/ä b.parquet"):
        (tmp_path / "train" / name).parent.mkdir(parents=True)
        (tmp_path / "train" / name).write_bytes(content)
    (tmp_path / "train" / "_SUCCESS").touch()
    plan = planned(f"data.train={tmp_path}/train", "data.partitioning=hive")
    upload.upload(plan, channels(plan), s3, lambda _: None)
    assert set(keys(s3)) == {"in/train/day=2025-01-01/a.parquet", "in/train/day=2025-01-02/ä b.parquet"}


@pytest.mark.parametrize("there", ["in/train/train.parquet", "in/train/old.parquet"])
def test_nothing_is_overwritten_or_mixed(there: str, s3: Any, tiny_data: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key=there, Body=b"other")
    plan = planned(f"data.path={tiny_data}")
    with pytest.raises(UserError, match=rf"launch\.input_path: s3://{BUCKET}/{there} .*nothing is overwritten"):
        upload.upload(plan, channels(plan), s3, lambda _: None)
    assert keys(s3)[there] == 5


def test_what_a_run_does_not_read_may_lie_there(s3: Any, tiny_data: Path) -> None:
    for name in ("in/train/_SUCCESS", "in/train/.hidden.parquet", "in/train/readme.txt", "in/train2/x.parquet"):
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"other")
    plan = planned(f"data.path={tiny_data}")
    upload.upload(plan, channels(plan), s3, lambda _: None)
    assert len(keys(s3)) == 7


def test_large_file_is_sent_in_parts_and_checked_by_the_service(s3: Any, parts: Path) -> None:
    plan = planned(f"data.train={parts}")
    said: list[str] = []
    first, last = Recorded(s3), Recorded(s3)
    upload.upload(plan, channels(plan), first, said.append)
    assert first.calls.count("upload_part") == 3
    assert first.checksums == {"SHA256"}
    assert s3.get_object(Bucket=BUCKET, Key="in/train/train.parquet")["Body"].read() == parts.read_bytes()
    upload.upload(plan, channels(plan), last, said.append)
    assert set(last.calls) == {"head_object"}


def test_what_was_cut_off_leaves_nothing_and_is_sent_again(s3: Any, parts: Path) -> None:
    plan = planned(f"data.train={parts}")
    with pytest.raises(ConnectionError):
        upload.upload(plan, channels(plan), Recorded(s3, fail="upload_part", after=1), lambda _: None)
    assert keys(s3) == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)  # parts without a file would be paid for
    upload.upload(plan, channels(plan), s3, lambda _: None)
    assert s3.get_object(Bucket=BUCKET, Key="in/train/train.parquet")["Body"].read() == parts.read_bytes()


def test_files_that_were_sent_before_a_failure_are_not_sent_again(s3: Any, parts: Path, tiny_data: Path) -> None:
    plan = planned(f"data.train={parts}", f"data.val={tiny_data}/val", f"data.test={tiny_data}/test")
    with pytest.raises(ConnectionError):
        upload.upload(plan, channels(plan), Recorded(s3, fail="upload_part"), lambda _: None)
    there = set(keys(s3))
    again = Recorded(s3)
    upload.upload(plan, channels(plan), again, lambda _: None)
    assert again.calls.count("put_object") == 2 - len(there)
    assert len(keys(s3)) == 3


@pytest.mark.parametrize("change", ["shorter", "longer", "other"])
def test_file_that_changes_meanwhile(s3: Any, parts: Path, change: str) -> None:
    plan = planned(f"data.train={parts}")
    content = parts.read_bytes()
    parts.write_bytes({"shorter": content[:9], "longer": content + b"x", "other": content[:-1] + b"?"}[change])
    with pytest.raises(UserError, match="changed while it was sent"):
        upload.upload(plan, channels(plan), s3, lambda _: None)
    assert keys(s3) == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_refusals(s3: Any, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(f"data.path={tiny_data}")
    with pytest.raises(UserError, match=r"AWS refuses ListObjectsV2: .* create it \(`aws s3 mb"):
        upload.upload(plan, channels(plan, "s3://no-such-bucket/in"), s3, lambda _: None)


def test_unset_credentials(aws: str, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client = boto3.Session(region_name="eu-central-1").client("s3")
    plan = planned(f"data.path={tiny_data}")
    with pytest.raises(UserError, match=r"no AWS credentials .*: sign in again"):
        upload.upload(plan, channels(plan), client, lambda _: None)


def test_plan_is_plain_data(tiny_data: Path) -> None:
    plan = planned(f"data.path={tiny_data}")
    assert dataclasses.replace(plan) == plan
