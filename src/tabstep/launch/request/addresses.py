"""The S3 addresses of a job: each is one that S3 takes, and none lies inside another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from tabstep.launch.request.job_spec import JobSpec, split_uri

_BUCKET = re.compile(r"(?!xn--)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+(\.\d+){3}")


def place_problems(spec: JobSpec) -> list[str]:
    """Return one line for each address of a job that cannot be used, and for each two that get in each other's way."""
    places = {key: uri for key, uri in _places(spec).items() if not _is_half_known(spec, uri)}
    faults = {key: address_problems(key, uri) for key, uri in places.items()}
    sound = {key: uri for key, uri in places.items() if not faults[key]}
    wrong = {split_uri(uri)[0] for key, uri in places.items() if faults[key]}
    known = split_uri(spec.bundle_uri)[0] in wrong or _is_half_known(spec, spec.bundle_uri)
    bundle = [] if known else address_problems("launch.bucket", spec.bundle_uri)
    return [*(line for lines in faults.values() for line in lines), *bundle, *_nesting(sound)]


def address_problems(key: str, uri: str) -> list[str]:
    """Return what is wrong with an ``s3://`` address of a directory: it needs a bucket and at least one name in it.

    >>> address_problems("launch.output_path", "s3://bucket/_a/dt=2025-01-01/")
    []
    >>> address_problems("launch.output_path", "s3://bucket/")
    ["launch.output_path: 's3://bucket/' names a whole bucket: add a directory, s3://bucket/NAME"]
    """
    if not uri.startswith("s3://"):
        return [f"{key}: expected an address s3://BUCKET/DIRECTORY, got {uri!r}"]
    bucket, _, key_text = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
        return [f"{key}: {bucket!r} cannot be a bucket: 3 to 63 small letters, digits, dots and dashes, got {uri!r}"]
    path = key_text.removesuffix("/")
    if not path:
        return [f"{key}: {uri!r} names a whole bucket: add a directory, s3://{bucket}/NAME"]
    if any(part in ("", ".", "..") for part in path.split("/")):
        return [f"{key}: {uri!r} has an empty or relative part: write it without '//', '/./' and '/../'"]
    if re.search(r"[\x00-\x1f\x7f\s]", uri) or len(path.encode()) > 1024:
        return [f"{key}: {uri!r} has blanks or control characters, or is longer than S3 allows"]
    return []


def _is_half_known(spec: JobSpec, uri: str) -> bool:
    """Whether an address was made of a region or an account that is missing: that is said of the region or the role."""
    account = (spec.role.split(":") + [""] * 5)[4]
    return split_uri(uri)[0] == f"sagemaker-{spec.region}-{account}" and not (spec.region and account)


def _places(spec: JobSpec) -> dict[str, str]:
    checkpoints = {} if spec.checkpoint_path is None else {"launch.checkpoint_path": spec.checkpoint_path}
    above = {} if spec.input_path is None else {"launch.input_path": spec.input_path}
    own = {
        f"data.{name}": uri
        for name, uri in spec.channels.items()
        if spec.input_path is None or not uri.startswith(f"{spec.input_path.rstrip('/')}/")
    }
    return {"launch.output_path": spec.output_path, **checkpoints, **above, **own}


def _nesting(sound: Mapping[str, str]) -> Iterator[str]:
    """The service refuses checkpoints inside the output; the other cases destroy or re-read what a job writes."""
    places = [(key, PurePosixPath("/".join(split_uri(uri)))) for key, uri in sound.items()]
    for index, (key, path) in enumerate(places):
        for other_key, other in places[:index]:
            if path == other:
                yield f"{other_key}, {key}: are the same place, s3://{path}: give each its own"
            elif path.is_relative_to(other) or other.is_relative_to(path):
                inner, outer = (key, other_key) if path.is_relative_to(other) else (other_key, key)
                yield f"{inner}: lies inside {outer}: give each a place of its own"
