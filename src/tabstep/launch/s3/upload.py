"""Which data a job reads: splits that lie on S3 are used where they are, local ones are sent to the input path.

A file that is sent carries the SHA-256 of its content. What is there already is not sent again, so that a transfer that
was cut off goes on with the files that are missing, and nothing that another run may be reading is ever overwritten.
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
from tabstep.launch.s3.transfer import Progress, Source, put, stored_digests
from tabstep.schema import SPLITS, Split
from tabstep.system.exits import say
from tabstep.tables.locations import PARQUET_SUFFIXES, Location, find_files, is_remote
from tabstep.tables.splits import locate_splits

_LONG: Final = 2**31  # bytes that take more than a moment to read


@dataclass(frozen=True, kw_only=True)
class UploadPlan:
    """The data of a job before anything is sent.

    ``channels`` are splits that lie on S3, ``locations`` and ``files`` those of local splits, the files named from the
    split's directory.
    """

    channels: Mapping[str, str]
    locations: Mapping[Split, Location]
    files: Mapping[Split, tuple[Source, ...]]

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
    places = _located(data, remote, local)
    locations = {split: find_files(place, where=f"data.{split}") for split, place in places.items()}
    named_paths = {split: _named(split, location, places[split]) for split, location in locations.items()}
    size = sum(path.stat().st_size for paths in named_paths.values() for path in paths.values())
    if size > _LONG:
        say(f"data: reading {_amount(size)} for its digest")
    # hashlib lets other threads run meanwhile
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = {split: tuple(pool.map(_hashed, paths, paths.values())) for split, paths in named_paths.items()}
    channels = {split: uri for split, uri in remote.items() if split not in files}
    return UploadPlan(channels=channels, locations=locations, files=files)


def upload(plan: UploadPlan, channels: Mapping[str, str], client: Any, show: Callable[[str], None]) -> None:
    """Send the local files to their channels; what is there with the same content is left as it is.

    Args:
        channels: the ``s3://`` directory of each split.
        client: of S3, made by boto3.

    Raises:
        UserError: a channel holds something else already, or a file changed meanwhile.
        RetryError: the connection was lost; the same command sends the files that are missing.
    """
    wanted = {split: _new(sources, channels[split], client) for split, sources in plan.files.items()}
    sizes = [source.size for new in wanted.values() for source in new.values()]
    if not sizes:
        show(f"data: {_amount(plan.size)} in {_count(plan)} are on S3 already")
        return
    progress = Progress(sum(sizes), lambda text: show(f"data: sending {text}"))
    for split, new in wanted.items():
        if new:
            put(client, split_uri(channels[split])[0], new, progress)
    places = ", ".join(channels[split] for split in plan.files)
    show(f"data: sent {_amount(sum(sizes))} in {len(sizes)} of {_count(plan)} to {places}")


def _new(sources: Sequence[Source], uri: str, client: Any) -> dict[str, Source]:
    """Return the files that are not there yet by key, once all that is there has proved to be of this data."""
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
    return {key: source for key, source in wanted.items() if key not in there}


def is_read(name: str) -> bool:
    """Whether a run reads a file of this name in a split's directory."""
    return name.endswith(PARQUET_SUFFIXES) and not any(part.startswith((".", "_")) for part in name.split("/"))


def _located(data: DataSettings, remote: Mapping[str, str], local: Mapping[Split, str]) -> Mapping[Split, str]:
    """Return the location of each local split, by the rules of a run on this machine."""
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
    return location if location.endswith(("/", *PARQUET_SUFFIXES)) else f"{location}/"


def _named(split: str, location: Location, place: str) -> dict[str, Path]:
    """Return path by name; a split of one file has the split's name on S3, whatever it is called here."""
    if len(location.paths) == 1 and os.path.isfile(place.removeprefix("file://")):
        return {f"{split}.parquet": Path(location.paths[0])}
    named = {location.name(path): Path(path) for path in location.paths}
    odd = [name for name in named if not name.isprintable()]
    if odd:
        raise ProblemsError([f"data.{split}: the name of {name!r} cannot be a key on S3: rename it" for name in odd])
    return named


def _hashed(name: str, path: Path) -> Source:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    return Source(name=name, path=path, size=size, sha256=digest)


def _count(plan: UploadPlan) -> str:
    count = sum(len(sources) for sources in plan.files.values())
    return f"{count} file{'' if count == 1 else 's'}"


def _amount(size: int) -> str:
    """Return a size for a person.

    >>> _amount(999), _amount(12_345_678)
    ('999 bytes', '12.3 MB')
    """
    return f"{size} bytes" if size < 1000 else f"{size / 1e6:.1f} MB"
