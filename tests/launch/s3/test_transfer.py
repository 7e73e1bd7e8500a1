from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.launch.conftest import BUCKET

from tabstep.launch.s3 import transfer


def test_progress_says_share_and_speed() -> None:
    said: list[str] = []
    progress = transfer.Progress(4_000_000, said.append, seconds=0.0)
    progress.add(1_000_000)
    progress.add(1_000_000)
    assert said[0].startswith("1.0 of 4.0 MB (25%), ")
    assert said[1].startswith("2.0 of 4.0 MB (50%), ")
    assert said[1].endswith(" MB/s")


def test_bytes_are_sent_once(s3: Any) -> None:
    assert transfer.put_bytes(s3, b"abc", BUCKET, "a") is True
    assert transfer.put_bytes(s3, b"abc", BUCKET, "a") is False
    assert transfer.put_bytes(s3, b"abcd", BUCKET, "a") is True
    assert s3.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"abcd"
    assert set(transfer.stored_digests(s3, BUCKET, "")) == {"a"}


def test_a_file_has_its_name_when_it_is_complete(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"abc")
    assert transfer.get(s3, BUCKET, "a", tmp_path / "a") is True
    assert transfer.get(s3, BUCKET, "b", tmp_path / "b") is False
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
