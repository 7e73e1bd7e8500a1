from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.launch.conftest import BUCKET
from tests.launch.jobs import archive

from tabstep.errors import UserError
from tabstep.launch.archives import objective
from tabstep.launch.s3.download import download, fetch_channels

ARTIFACT = f"s3://{BUCKET}/out/job-1/output/model.tar.gz"
MODEL = {"manifest.json": b"{}"}


def put(s3: Any, model: bytes, results: bytes | None = None) -> None:
    for name, data in (("model.tar.gz", model), ("output.tar.gz", results)):
        if data is not None:
            s3.put_object(Bucket=BUCKET, Key=f"out/job-1/output/{name}", Body=data)


def files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_second_fetch_replaces_the_first(s3: Any, tmp_path: Path) -> None:
    for name in ("old", "new"):
        put(s3, archive({f"{name}.json": b"1"}), archive({"report.json": b"{}", f"predictions/{name}": b"2"}))
        download(ARTIFACT, s3, tmp_path / "run", tmp_path / "run" / "model", lambda _: None)
    assert files(tmp_path / "run") == ["model/new.json", "predictions/new", "report.json"]


def test_a_job_without_results_has_a_model(s3: Any, tmp_path: Path) -> None:
    put(s3, archive(MODEL))
    said: list[str] = []
    download(ARTIFACT, s3, tmp_path / "run", tmp_path / "model", said.append)
    assert said == [f"model:       {tmp_path}/model"]
    assert files(tmp_path) == ["model/manifest.json"]
    assert objective(tmp_path / "run", "val_auroc") is None


@pytest.mark.parametrize(
    "data",
    [b"no archive", archive({"../evil": b"x"}), archive({"a": b"x" * 9999})[:-40]],
    ids=["no archive", "a path outside", "cut off"],
)
def test_damaged_archive(data: bytes, s3: Any, tmp_path: Path) -> None:
    put(s3, data)
    with pytest.raises(UserError, match="is damaged"):
        download(ARTIFACT, s3, tmp_path / "run", tmp_path / "run" / "model", lambda _: None)
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_missing_artifact(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{ARTIFACT}: is not there"):
        download(ARTIFACT, s3, tmp_path / "run", tmp_path / "run" / "model", lambda _: None)


def channel(name: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": uri}}}


def test_channels_on_s3_are_fetched(s3: Any, tmp_path: Path) -> None:
    for key in ("t/train/day=1/a.parquet", "t/train2/b.parquet", "val.parquet", "t/train/"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    inputs = [channel("train", f"s3://{BUCKET}/t/train/"), channel("val", f"s3://{BUCKET}/val.parquet")]
    found = fetch_channels({"InputDataConfig": [*inputs, channel("test", "s3://b/x")]}, tmp_path, without={"test": {}})
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
        fetch_channels({"InputDataConfig": [channel("train", uri)]}, tmp_path, without={})
