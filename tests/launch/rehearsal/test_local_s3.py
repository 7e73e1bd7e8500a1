from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.launch.conftest import BUCKET

from tabstep.errors import UserError
from tabstep.launch.rehearsal.local_s3 import deposit, fetch, file_of

REQUEST = {"TrainingJobName": "job-1", "OutputDataConfig": {"S3OutputPath": "s3://b/out/"}}


def channel(name: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": uri}}}


def test_an_address_is_a_file(tmp_path: Path) -> None:
    assert (
        file_of(tmp_path, "s3://b/a/dt=2025-01-01/x.tar.gz") == tmp_path / "s3" / "b" / "a" / "dt=2025-01-01/x.tar.gz"
    )


def test_archives_hold_what_all_hosts_left_and_of_one_name_the_first(tmp_path: Path) -> None:
    for host, names in (("one", ["m", "a"]), ("two", ["m", "b"])):
        (tmp_path / host / "output" / "data").mkdir(parents=True)
        (tmp_path / host / "model").mkdir()
        for name in names:
            (tmp_path / host / "model" / name).write_text(host)
    places = deposit(REQUEST, [tmp_path / "one", tmp_path / "two"], tmp_path)
    assert list(places) == ["s3://b/out/job-1/output/model.tar.gz"]
    with tarfile.open(places["s3://b/out/job-1/output/model.tar.gz"]) as tar:
        tar.extractall(tmp_path / "back", filter="data")
    found = {path.name: path.read_text() for path in (tmp_path / "back").iterdir()}
    assert found == {"a": "one", "b": "two", "m": "one"}


def test_channels_on_s3_are_fetched(s3: Any, tmp_path: Path) -> None:
    for key in ("t/train/day=1/a.parquet", "t/train2/b.parquet", "val.parquet", "t/train/"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    inputs = [channel("train", f"s3://{BUCKET}/t/train/"), channel("val", f"s3://{BUCKET}/val.parquet")]
    found = fetch({"InputDataConfig": [*inputs, channel("test", "s3://b/x")]}, tmp_path, without={"test": {}})
    assert found == {
        "train": {"day=1/a.parquet": tmp_path / "train" / "day=1" / "a.parquet"},
        "val": {"val.parquet": tmp_path / "val" / "val.parquet"},
    }
    assert found["train"]["day=1/a.parquet"].read_text() == "t/train/day=1/a.parquet"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (f"s3://{BUCKET}/none/", f"^s3://{BUCKET}/none/: there is nothing to read"),
        ("s3://no-such-bucket/t/", "^s3://no-such-bucket/t/: AWS refuses ListObjectsV2: .*: create it"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(uri: str, reason: str, s3: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        fetch({"InputDataConfig": [channel("train", uri)]}, tmp_path, without={})
