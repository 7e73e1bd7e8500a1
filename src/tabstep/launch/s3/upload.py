"""Which data a job reads: splits that lie on S3 are used where they are, local ones are sent to the input path.

A file that is sent carries the SHA-256 of its content. What is there already is not sent again, a transfer that was cut
off goes on where it stopped, and nothing that another run may be reading is ever overwritten.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tabstep.config.settings import DataSettings, RemoteSettings
from tabstep.errors import ProblemsError, UserError
from tabstep.launch.request.job_spec import split_uri
from tabstep.launch.s3.transfer import Progress, Source, Target, put, stored_digests
from tabstep.schema import SPLITS, Split
from tabstep.system.exits import say

_SUFFIXES: Final = (".parquet", ".parq", ".pq")
_LONG: Final = 2**31  # bytes that take more than a moment to read


@dataclass(frozen=True, kw_only=True)
class UploadPlan:
    """The data of a job before anything is sent.

    ``channels`` are splits that lie on S3, ``files`` those of local splits, named from the split's directory.
    """

    channels: Mapping[str, str]
    files: Mapping[str, tuple[Source, ...]]

    @property
    def splits(self) -> dict[str, tuple[Path, ...]]:
        """Paths of the files of each local split."""
        return {split: tuple(source.path for source in sources) for split, sources in self.files.items()}

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents; empty without local files."""
        if not self.files:
            return ""
        digest = hashlib.sha256()
        for split, sources in sorted(self.files.items()):
            for source in sources:
                digest.update(f"{split}/{source.name}\0{source.size}\0{source.sha256}\0".encode())
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all local files."""
        return sum(source.size for sources in self.files.values() for source in sources)


def plan(data: DataSettings, launch: RemoteSettings) -> UploadPlan:
    """Find the files of local splits and read them once for their digests; S3 is not asked.

    Raises:
        UserError: a local file is missing or cannot be read, or an address cannot be a channel.
    """
    named = {split: location for split in SPLITS if (location := getattr(data, split)) is not None}
    remote: dict[str, str] = {}
    if data.path is not None and is_remote(data.path):
        remote = {split: f"{data.path.rstrip('/')}/{split}/" for split in launch.channels}
    remote |= {split: _channel(split, location) for split, location in named.items() if is_remote(location)}
    local = {split: location for split, location in named.items() if not is_remote(location)}
    located = _located(data, remote, local)
    found: dict[str, list[tuple[str, Path]]] = {split: _files(split, location) for split, location in located.items()}
    size = sum(path.stat().st_size for named_paths in found.values() for _, path in named_paths)
    if size > _LONG:
        say(f"data: reading {_amount(size)} for its digest")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = {split: tuple(pool.map(_hashed, named_paths)) for split, named_paths in found.items()}
    return UploadPlan(channels={split: uri for split, uri in remote.items() if split not in files}, files=files)


def is_remote(location: str) -> bool:
    """Whether a location is an address that is not of this machine."""
    return "://" in location and not location.startswith("file://")


def upload(plan: UploadPlan, channels: Mapping[str, str], client: Any, show: Callable[[str], None]) -> None:
    """Send the local files to their channels; what is there with the same content is left as it is.

    Args:
        channels: the ``s3://`` directory of each split.
        client: of S3, made by boto3.

    Raises:
        UserError: a channel holds something else already, or a file changed meanwhile.
        RetryError: the connection was lost; the same command goes on where it stopped.
    """
    targets: list[Target] = []
    for split, sources in plan.files.items():
        targets += _new(sources, channels[split], client)
    total = sum(target.source.size for target in targets)
    if not targets:
        show(f"data: {_amount(plan.size)} in {_count(plan)} are on S3 already")
        return
    put(client, targets, Progress(total, lambda text: show(f"data: sending {text}")))
    places = ", ".join(channels[split] for split in plan.files)
    show(f"data: sent {_amount(total)} in {len(targets)} of {_count(plan)} to {places}")


def _new(sources: Sequence[Source], uri: str, client: Any) -> list[Target]:
    """Return the files that are not there yet, once all that is there has proved to be of this data."""
    bucket, prefix = split_uri(uri)
    there = stored_digests(client, bucket, f"{prefix}/")
    wanted = {f"{prefix}/{source.name}": source for source in sources}
    strange = [key for key in there if key not in wanted and is_read(key.removeprefix(f"{prefix}/"))]
    changed = [key for key, digest in there.items() if key in wanted and digest != wanted[key].sha256]
    if strange or changed:
        key = (changed or strange)[0]
        why = "has another content than yours" if changed else "is none of your files, and the job would read it too"
        raise UserError(
            f"launch.input_path: s3://{bucket}/{key} {why}: nothing is overwritten; set launch.input_path to another "
            "place or null, or set data.path to it to train on what is there"
        )
    return [Target(source=wanted[key], bucket=bucket, key=key) for key in wanted if key not in there]


def is_read(name: str) -> bool:
    """Whether a run reads a file of this name in a split's directory."""
    return name.endswith(_SUFFIXES) and not any(part.startswith((".", "_")) for part in name.split("/"))


def _located(data: DataSettings, remote: Mapping[str, str], local: Mapping[Split, str]) -> Mapping[Split, str]:
    """Return the location of each local split, by the rules of a run on this machine."""
    from tabstep.tables.splits import locate_splits

    path = None if data.path is None or is_remote(data.path) else data.path
    if path is not None and remote:
        raise UserError(
            f"data.path: {path} is a directory here and {', '.join(remote)} lies on S3: "
            "set data.train, data.val and data.test instead"
        )
    if path is None and "train" not in local:
        return local
    return locate_splits(path, local.get("train"), local.get("val"), local.get("test"))


def _channel(split: str, location: str) -> str:
    """Return an address as a channel's: a prefix, so that a directory has to end in a slash."""
    if not location.startswith("s3://"):
        raise UserError(f"data.{split}: a job reads s3:// addresses, got {location!r}")
    if any(character in location for character in "*?["):
        raise UserError(f"data.{split}: a job cannot read a pattern, got {location!r}: name the directory")
    return location if location.endswith(("/", *_SUFFIXES)) else f"{location}/"


def _files(split: str, location: str) -> list[tuple[str, Path]]:
    """Return name and path of each file; a split of one file has the split's name on S3, whatever it is called here."""
    from tabstep.tables.locations import find_files

    found = find_files(location, where=f"data.{split}")
    if found.paths == (location.removeprefix("file://"),) or (len(found.paths) == 1 and Path(location).is_file()):
        return [(f"{split}.parquet", Path(found.paths[0]))]
    names = [found.name(path) for path in found.paths]
    odd = [name for name in names if not name.isprintable()]
    if odd:
        raise ProblemsError([f"data.{split}: the name of {name!r} cannot be a key on S3: rename it" for name in odd])
    return list(zip(names, map(Path, found.paths), strict=True))


def _hashed(named: tuple[str, Path]) -> Source:
    name, path = named
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            state = os.fstat(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    return Source(name=name, path=path, size=state.st_size, sha256=digest, changed_ns=state.st_mtime_ns)


def _count(plan: UploadPlan) -> str:
    count = sum(len(sources) for sources in plan.files.values())
    return f"{count} file{'' if count == 1 else 's'}"


def _amount(size: int) -> str:
    """Return a size for a person.

    >>> _amount(999), _amount(12_345_678)
    ('999 bytes', '12.3 MB')
    """
    return f"{size} bytes" if size < 1000 else f"{size / 1e6:.1f} MB"
