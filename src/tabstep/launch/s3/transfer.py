"""Files to S3 and back by boto3's transfer manager: in parts, in parallel, and proved by digests on the way."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tabstep.errors import UserError
from tabstep.launch.s3.aws_errors import MISSING, code, refusals
from tabstep.system.atomic_write import publishing

WORKERS: Final = 8
DIGEST: Final = "tabstep-sha256"
"""Name of the metadata entry with the SHA-256 of a whole file."""
_PART: Final = 16 * 2**20
_MOST_PARTS: Final = 10_000
_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """A local file with the digest that was taken of it; ``name`` is relative to where it will lie."""

    name: str
    path: Path
    size: int
    sha256: str


class Progress:
    """Counts bytes over several threads and says every few seconds how far it is."""

    def __init__(self, total: int, show: Callable[[str], None], *, seconds: float = _SECONDS) -> None:
        self._total, self._show, self._seconds = total, show, seconds
        self._done = 0
        self._started = self._said = time.monotonic()
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """Count ``size`` bytes; a part that is sent again takes its own back first."""
        with self._lock:
            self._done += size
            now = time.monotonic()
            if now - self._said < self._seconds:
                return
            self._said = now
            speed = self._done / (now - self._started) / 1e6
            share = self._done / max(self._total, 1)
            self._show(f"{self._done / 1e6:.1f} of {self._total / 1e6:.1f} MB ({share:.0%}), {speed:.1f} MB/s")


class _Proved:
    """A file as a stream that ends in an error unless its content is the one that the digest was taken of.

    The manager reads a stream once, in order, and to its end before it completes the object: what is no longer the file
    of the digest never gets its name on S3. There is no ``seek``, for with it parts would be read in any order.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._digest = source, hashlib.sha256()
        self._file: IO[bytes] | None = None  # opened by the first read: thousands of streams wait for their turn
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; empty at the end.

        Raises:
            UserError: the file was changed, or cannot be read any more.
        """
        if self._ended:
            return b""
        try:
            self._file = self._file or open(self._source.path, "rb")  # noqa: SIM115 read on by the next call
            data = self._file.read(size)
        except OSError as error:
            raise UserError(f"{self._source.path}: cannot be read: {error.strerror or error}") from error
        self._digest.update(data)
        if size < 0 or len(data) < size:
            self.close()
            if self._digest.hexdigest() != self._source.sha256:
                raise UserError(f"{self._source.path}: changed while it was sent: run the same command again")
        return data

    def close(self) -> None:
        """Read no more."""
        self._ended = True
        if self._file is not None:
            self._file.close()


def put(client: Any, bucket: str, sources: Mapping[str, Source], progress: Progress) -> None:
    """Send files, each whole or not at all; of those that wait none is begun after an error or Ctrl-C.

    Args:
        sources: file by key.

    Raises:
        UserError: AWS refuses, or a file is no longer what it was.
        RetryError: the connection was lost.
    """
    from boto3.s3.transfer import ProgressCallbackInvoker, TransferConfig, create_transfer_manager

    longest = max(source.size for source in sources.values())
    config = TransferConfig(
        multipart_threshold=_PART,
        # A stream's length is not known to the manager, which would run out of part numbers at 160 GB.
        multipart_chunksize=max(_PART, -(-longest // _MOST_PARTS)),
        max_concurrency=WORKERS,
        preferred_transfer_client="classic",  # the other one takes no streams
    )
    heard = [ProgressCallbackInvoker(progress.add)]
    with contextlib.ExitStack() as streams, create_transfer_manager(client, config) as manager:
        futures = {}
        for key, source in sources.items():
            stream = streams.enter_context(contextlib.closing(_Proved(source)))
            # its digest as metadata, and a checksum of each part, which S3 verifies
            proofs = {"Metadata": {DIGEST: source.sha256}, "ChecksumAlgorithm": "SHA256"}
            futures[key] = manager.upload(stream, bucket, key, proofs, heard)
        for key, future in futures.items():
            with refusals(f"s3://{bucket}/{key}"):
                future.result()


def put_bytes(client: Any, data: bytes, bucket: str, key: str) -> bool:
    """Send a small object unless it is there with this content; return whether it was sent."""
    digest = hashlib.sha256(data)
    with refusals(f"s3://{bucket}/{key}"):
        if _stored_digest(client, bucket, key) == digest.hexdigest():
            return False
        client.put_object(
            Bucket=bucket,
            Key=key,
            Body=data,
            Metadata={DIGEST: digest.hexdigest()},
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
        )
    return True


def stored_digests(client: Any, bucket: str, prefix: str) -> dict[str, str | None]:
    """Return the digest of every object below ``prefix``, None for one that this program did not send."""
    with refusals(f"s3://{bucket}/{prefix}"), ThreadPoolExecutor(WORKERS) as pool:
        keys = [key for key in stored_keys(client, bucket, prefix) if not key.endswith("/")]
        return dict(zip(keys, pool.map(lambda key: _stored_digest(client, bucket, key), keys), strict=True))


def stored_keys(client: Any, bucket: str, prefix: str) -> Iterator[str]:
    """Yield the keys of all objects whose key begins so, as they are listed."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (item["Key"] for item in page.get("Contents", ()))


def _stored_digest(client: Any, bucket: str, key: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        with _named_refusals(client, bucket, key):
            digest: str | None = client.head_object(Bucket=bucket, Key=key)["Metadata"].get(DIGEST)
    except ClientError as error:
        if code(error) in MISSING:
            return None
        raise
    return digest


@contextlib.contextmanager
def _named_refusals(client: Any, bucket: str, key: str) -> Iterator[None]:
    """Ask again for the object by GET where HEAD was refused with a number alone: its answers have no text.

    An expired token is ``400 Bad Request`` to HEAD, an unknown key and a missing right are both ``403 Forbidden``.
    """
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if code(error).startswith("4") and code(error) not in MISSING:
            client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")  # raises the same under its name
        raise


def get(client: Any, bucket: str, key: str, path: Path) -> bool:
    """Fetch an object into a file that has its name when it is complete; return whether there is one."""
    from botocore.exceptions import ClientError

    with refusals(f"s3://{bucket}/{key}"):
        try:
            with (
                publishing(path) as temporary,
                open(temporary, "wb") as file,
                _named_refusals(client, bucket, key),  # it begins with a HEAD
            ):
                client.download_fileobj(bucket, key, file)
        except ClientError as error:
            if code(error) in MISSING:
                return False
            raise
    return True
