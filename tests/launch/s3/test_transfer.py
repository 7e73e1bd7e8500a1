from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.launch.conftest import BUCKET

from tabstep.errors import UserError
from tabstep.launch.s3 import transfer
from tabstep.launch.s3.aws_errors import CredentialsError


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


class Refusing:
    """A client of S3 as it answers: to HEAD with a number alone, to GET with the reason."""

    def __init__(self, status: str, code: str, message: str) -> None:
        self._status, self._code, self._message = status, code, message

    def head_object(self, **_: Any) -> Any:
        raise self._error(self._status, "Bad Request", "HeadObject")

    def download_fileobj(self, *_: Any) -> None:
        self.head_object()

    def get_object(self, **_: Any) -> Any:
        raise self._error(self._code, self._message, "GetObject")

    def _error(self, code: str, message: str, operation: str) -> Exception:
        exceptions = pytest.importorskip("botocore.exceptions")
        error: Exception = exceptions.ClientError({"Error": {"Code": code, "Message": message}}, operation)
        return error


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (("400", "ExpiredToken", "The token has expired."), CredentialsError, "The token has expired: sign in again"),
        (("403", "InvalidAccessKeyId", "No such key."), CredentialsError, "No such key: sign in again"),
        (("403", "AccessDenied", "Not yours."), UserError, "Not yours: the policy for launching users"),
        (("400", "InvalidRequest", "A key is needed."), UserError, "GetObject: A key is needed"),
    ],
)
def test_the_reason_of_a_refused_head_is_told(
    answer: tuple[str, str, str], kind: type[Exception], said: str, tmp_path: Path
) -> None:
    client = Refusing(*answer)
    for call in (
        lambda: transfer.put_bytes(client, b"x", BUCKET, "a"),
        lambda: transfer.get(client, BUCKET, "a", tmp_path / "a"),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert type(caught.value) is kind
        assert said in str(caught.value)
        assert "HeadObject" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
