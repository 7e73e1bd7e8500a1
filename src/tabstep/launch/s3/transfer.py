"""Files to S3 and back: in parts that survive an interruption, checked by digests on the way."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tabstep.errors import UserError
from tabstep.launch.s3.aws_errors import code, refusals

WORKERS: Final = 8
DIGEST: Final = "tabstep-sha256"
"""Name of the metadata entry with the SHA-256 of a whole file."""
_PART: Final = 16 * 2**20
_MOST_PARTS: Final = 10_000
_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """A local file as it was when its digest was taken; ``name`` is relative to where it will lie."""

    name: str
    path: Path
    size: int
    sha256: str
    changed_ns: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file and where it goes."""

    source: Source
    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The address."""
        return f"s3://{self.bucket}/{self.key}"


class Progress:
    """Counts bytes over several threads and says every few seconds how far it is."""

    def __init__(self, total: int, show: Callable[[str], None], *, seconds: float = _SECONDS) -> None:
        self._total, self._show, self._seconds = total, show, seconds
        self._done, self._fresh = 0, 0
        self._started = self._said = time.monotonic()
        self._lock = threading.Lock()

    def add(self, size: int, *, fresh: bool = True) -> None:
        """Count ``size`` bytes; those that an earlier try had sent are not ``fresh`` and tell nothing of the speed."""
        with self._lock:
            self._done += size
            self._fresh += size if fresh else 0
            now = time.monotonic()
            if now - self._said < self._seconds:
                return
            self._said = now
            speed = self._fresh / (now - self._started) / 1e6
            share = self._done / max(self._total, 1)
            self._show(f"{self._done / 1e6:.1f} of {self._total / 1e6:.1f} MB ({share:.0%}), {speed:.1f} MB/s")


def stored_digests(client: Any, bucket: str, prefix: str) -> dict[str, str | None]:
    """Return the digest of every object below ``prefix``, None for one that this program did not send."""
    with refusals(f"s3://{bucket}/{prefix}"):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")]
        with workers() as pool:
            heads = pool.map(lambda key: client.head_object(Bucket=bucket, Key=key), keys)
            return {key: head["Metadata"].get(DIGEST) for key, head in zip(keys, heads, strict=True)}


def put_bytes(client: Any, data: bytes, bucket: str, key: str) -> bool:
    """Send a small object unless it is there with this content; return whether it was sent."""
    digest = hashlib.sha256(data).hexdigest()
    with refusals(f"s3://{bucket}/{key}"):
        if _stored(client, bucket, key) == digest:
            return False
        client.put_object(
            Bucket=bucket,
            Key=key,
            Body=data,
            Metadata={DIGEST: digest},
            ChecksumSHA256=_checksum(data),
        )
    return True


def _stored(client: Any, bucket: str, key: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        found: str | None = client.head_object(Bucket=bucket, Key=key)["Metadata"].get(DIGEST)
    except ClientError as error:
        if code(error) in ("404", "NoSuchKey", "NotFound"):
            return None
        raise
    return found


@contextmanager
def workers() -> Iterator[Executor]:
    """Run a few transfers at a time; after an error or Ctrl-C those that wait are dropped, not waited for."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def put(client: Any, targets: Sequence[Target], progress: Progress) -> None:
    """Send files; a large one in parts, of which those that an earlier try has sent are not sent again.

    Raises:
        UserError: AWS refuses, or a file is no longer what it was.
        RetryError: the connection was lost.
    """
    small = [target for target in targets if target.source.size <= _PART]
    large = [target for target in targets if target.source.size > _PART]
    with workers() as pool:
        for _ in pool.map(lambda target: _put_whole(client, target, progress), small):
            pass
        for target in large:
            with refusals(target.uri):
                _put_parts(client, target, pool, progress)


def _put_whole(client: Any, target: Target, progress: Progress) -> None:
    _check_unchanged(target.source)
    put_bytes(client, target.source.path.read_bytes(), target.bucket, target.key)
    progress.add(target.source.size)


def _put_parts(client: Any, target: Target, pool: Executor, progress: Progress) -> None:
    source, place = target.source, {"Bucket": target.bucket, "Key": target.key}
    size = part_size(source.size)
    upload_id, sent = _unfinished(client, target)
    if upload_id is None:
        started = client.create_multipart_upload(**place, Metadata={DIGEST: source.sha256}, ChecksumAlgorithm="SHA256")
        upload_id = str(started["UploadId"])

    def send(number: int) -> dict[str, Any]:
        offset = (number - 1) * size
        length = min(size, source.size - offset)
        if number in sent:
            progress.add(length, fresh=False)
            return sent[number]
        data = _read(source, offset, length)
        checksum = _checksum(data)
        answer = client.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=data, ChecksumSHA256=checksum)
        progress.add(length)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

    numbers = range(1, -(-source.size // size) + 1)
    parts = list(pool.map(send, numbers))
    _check_unchanged(source)
    client.complete_multipart_upload(**place, UploadId=upload_id, MultipartUpload={"Parts": parts})


def part_size(size: int) -> int:
    """Return the bytes of a part: the same for the same file, or an earlier try could not be continued.

    >>> part_size(100 * 2**20) // 2**20, part_size(2**40) // 2**20
    (16, 105)
    """
    fitting = -(-size // _MOST_PARTS)
    return max(_PART, -(-fitting // 2**20) * 2**20)


def _unfinished(client: Any, target: Target) -> tuple[str | None, dict[int, dict[str, Any]]]:
    """Return the newest upload of this very content that was cut off, with its parts.

    The service does not tell the metadata of an unfinished upload. What proves its content is the parts' digests.
    """
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=target.bucket, Prefix=target.key)
    found = [upload for page in pages for upload in page.get("Uploads", []) if upload["Key"] == target.key]
    for upload in sorted(found, key=lambda upload: upload["Initiated"], reverse=True):
        parts = [_proven(target.source, part) for part in _parts(client, target, upload["UploadId"])]
        if None not in parts:
            return str(upload["UploadId"]), {part["PartNumber"]: part for part in parts if part is not None}
    return None, {}


def _parts(client: Any, target: Target, upload_id: str) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("list_parts").paginate(Bucket=target.bucket, Key=target.key, UploadId=upload_id)
    for page in pages:
        yield from page.get("Parts", [])


def _proven(source: Source, part: dict[str, Any]) -> dict[str, Any] | None:
    """Return a part as the request that completes the file names it, None unless it is of this file's content."""
    number, size = part["PartNumber"], part_size(source.size)
    offset = (number - 1) * size
    if offset >= source.size or part["Size"] != min(size, source.size - offset):
        return None
    data = _read(source, offset, part["Size"])
    checksum = _checksum(data)
    # Without its own digest, a part's tag is the MD5 of its content.
    tag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    same = part["ChecksumSHA256"] == checksum if "ChecksumSHA256" in part else part["ETag"].strip('"') == tag
    return {"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": checksum} if same else None


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _read(source: Source, offset: int, length: int) -> bytes:
    with open(source.path, "rb") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        _check_unchanged(source)
    return data


def _check_unchanged(source: Source) -> None:
    state = os.stat(source.path)
    if (state.st_size, state.st_mtime_ns) != (source.size, source.changed_ns):
        raise UserError(f"{source.path}: changed while it was sent: run the same command again")


def get(client: Any, bucket: str, key: str, path: Path) -> bool:
    """Fetch an object into a file that has its name when it is complete; return whether there is one."""
    from botocore.exceptions import ClientError

    temporary = path.with_name(f".{path.name}.part")
    with refusals(f"s3://{bucket}/{key}"):
        try:
            client.download_file(bucket, key, str(temporary))
        except ClientError as error:
            if code(error) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise
    os.replace(temporary, path)
    return True
