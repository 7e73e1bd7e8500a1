from __future__ import annotations

from dataclasses import replace

import pytest
from tests.launch.jobs import settings_of, spec_of

from tabstep.launch.request.addresses import address_problems, place_problems


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a",
        "s3://bucket/a/",
        "s3://my.bucket-1/dt=2025-01-01/",
        "s3://bucket/_internal/_x",
        "s3://bucket/a+b/c:d/e(f)!",
        "s3://bucket/tables/train.parquet",
        "s3://bucket/größe/日本",
    ],
)
def test_good_addresses(uri: str) -> None:
    assert address_problems("launch.output_path", uri) == []


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("", "expected an address s3://BUCKET/DIRECTORY, got ''"),
        ("bucket/a", "expected an address s3://BUCKET/DIRECTORY"),
        ("s3:/bucket/a", "expected an address"),
        ("S3://bucket/a", "expected an address"),
        ("https://bucket.s3.amazonaws.com/a", "expected an address"),
        ("s3://bucket", "names a whole bucket: add a directory, s3://bucket/NAME"),
        ("s3://bucket/", "names a whole bucket"),
        ("s3://Bucket/a", "'Bucket' cannot be a bucket"),
        ("s3://my_bucket/a", "'my_bucket' cannot be a bucket"),
        ("s3://ab/a", "'ab' cannot be a bucket"),
        ("s3://a..b/a", "cannot be a bucket"),
        ("s3://127.0.0.1/a", "cannot be a bucket"),
        ("s3://" + "b" * 64 + "/a", "cannot be a bucket"),
        ("s3:///a", "'' cannot be a bucket"),
        ("s3://bucket//a", "empty or relative part"),
        ("s3://bucket/a//", "empty or relative part"),
        ("s3://bucket/a/../b", "empty or relative part"),
        ("s3://bucket/a b", "blanks or control characters"),
        ("s3://bucket/a\nb", "blanks or control characters"),
        ("s3://bucket/" + "k" * 1025, "longer than S3 allows"),
    ],
)
def test_bad_addresses(uri: str, reason: str) -> None:
    [problem] = address_problems("launch.output_path", uri)
    assert problem.startswith("launch.output_path: ")
    assert reason in problem


@pytest.mark.parametrize(
    ("launch", "problem"),
    [
        (
            {"output_path": "s3://b-1/x", "checkpoint_path": "s3://b-1/x/"},
            "launch.output_path, launch.checkpoint_path: are the same place, s3://b-1/x",
        ),
        (
            {"output_path": "s3://b-1/x", "checkpoint_path": "s3://b-1/x/c"},
            "launch.checkpoint_path: lies inside launch.output_path",
        ),
        (
            {"output_path": "s3://b-1/x/o", "checkpoint_path": "s3://b-1/x"},
            "launch.output_path: lies inside launch.checkpoint_path",
        ),
        (
            {"output_path": "s3://b-1/in/out", "input_path": "s3://b-1/in"},
            "launch.output_path: lies inside launch.input_path",
        ),
        (
            {"checkpoint_path": "s3://b-1/in", "input_path": "s3://b-1/in/"},
            "launch.checkpoint_path, launch.input_path: are the same place",
        ),
    ],
)
def test_places_inside_each_other(launch: dict[str, str], problem: str) -> None:
    [found] = place_problems(spec_of(settings_of(**launch)))
    assert found.startswith(problem)


def test_names_that_begin_alike_are_other_places() -> None:
    launch = {"output_path": "s3://b-1/x", "checkpoint_path": "s3://b-1/x2", "input_path": "s3://b-1/x-in"}
    assert place_problems(spec_of(settings_of(**launch))) == []


def test_channels_of_their_own_are_places_too() -> None:
    spec = replace(spec_of(settings_of()), input_path=None, channels={"train": "s3://b-1/t/", "val": "s3://b-1/t/v/"})
    assert place_problems(spec) == ["data.val: lies inside data.train: give each a place of its own"]
    beside = replace(spec, input_path="s3://b-1/in", channels={"train": "s3://b-1/in/train/", "val": "s3://b-1/in2/"})
    [found] = place_problems(replace(beside, output_path="s3://b-1/in2/out"))
    assert found == "launch.output_path: lies inside data.val: give each a place of its own"


def test_a_wrong_bucket_is_named_once_a_key() -> None:
    found = place_problems(spec_of(settings_of(bucket=None, output_path="s3://B/o")))
    assert [line.split(":")[0] for line in found] == [
        "launch.output_path",
        "launch.checkpoint_path",
        "launch.input_path",
    ]
    assert place_problems(
        spec_of(settings_of(bucket="B", output_path="s3://b-1/o", checkpoint_path="none", input_path="s3://b-1/i"))
    )[0].startswith("launch.bucket: 'B' cannot be a bucket")


@pytest.mark.parametrize("missing", [{"role": None}, {"region": None}, {"role": "job"}])
def test_a_bucket_that_waits_for_role_or_region_is_no_problem_of_its_own(missing: dict[str, str | None]) -> None:
    assert place_problems(spec_of(settings_of(bucket=None, **missing))) == []
