"""A job is made of settings alone: no network, no credentials, and every mistake in it told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sagemaker")

import pyarrow as pa
import pyarrow.parquet as pq
from tests.launch.jobs import BUNDLE, NOW, settings_of

from tabstep.errors import ProblemsError
from tabstep.launch import prepare_job

pytestmark = pytest.mark.usefixtures("nowhere")


@pytest.mark.parametrize(
    ("launch", "lines"),
    [
        ({"subnets": ["s"], "keep_alive": 99999}, ["launch.subnets, launch.security_group_ids", "launch.keep_alive"]),
        ({"instance_type": "local"}, ["launch.instance_type"]),
        ({"instance_type": "ml.trn1.2xlarge", "job_name": "a_b"}, ["launch.instance_type"]),
    ],
)
def test_what_the_sdk_cannot_take_at_all_is_a_problem_like_others(
    monkeypatch: pytest.MonkeyPatch, launch: dict[str, Any], lines: list[str]
) -> None:
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    with pytest.raises(ProblemsError) as caught:
        prepare_job.prepare(settings_of(**launch), [], now=NOW)
    assert [line.partition(": ")[0] for line in caught.value.problems] == lines


def test_columns_are_looked_up_in_the_footers(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "t" / split).mkdir(parents=True)
        pq.write_table(pa.table({"a": [1], "y": [0]}), tmp_path / "t" / split / f"{split}.parquet")
    settings = settings_of(f"data.path={tmp_path / 't'}", "schema.label=y", "schema.numeric=[a,b]")
    with pytest.raises(ProblemsError) as caught:
        prepare_job.prepare(settings, [], now=NOW)
    assert [line.split(":")[0] + line.split(":")[1] for line in caught.value.problems] == [
        "schema.numeric train has no column 'b'",
        "schema.numeric val has no column 'b'",
    ]


def test_the_same_settings_give_the_same_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    first, second = (prepare_job.prepare(settings_of(), ["seed=3"], now=NOW) for _ in range(2))
    assert first.request == second.request
    assert first.spec.hyperparameters == {"seed": "3"}


def test_a_rehearsal_needs_no_account() -> None:
    made = prepare_job.prepare(settings_of(name="rehearsal", role=None, region=None, bucket=None), [], now=NOW)
    assert (made.spec.role, made.spec.region) == ("arn:aws:iam::000000000000:role/any", "us-east-1")
    assert made.spec.bundle_uri.startswith("s3://sagemaker-us-east-1-000000000000/tabstep/")
    with pytest.raises(ProblemsError, match=r"launch\.role: is missing"):
        prepare_job.prepare(settings_of(role=None), [], now=NOW)


def test_columns_of_every_file_and_of_directories_count(tmp_path: Path) -> None:
    train = tmp_path / "t" / "train"
    for day, columns in (("2025-01-01", {"a": [1], "b": [1], "y": [0]}), ("2025-01-02", {"a": [1], "y": [0]})):
        (train / f"day={day}").mkdir(parents=True)
        pq.write_table(pa.table(columns), train / f"day={day}" / "part.parquet")
    schema = ["schema.label=y", "schema.numeric=[a,b]", "schema.categorical=[day]"]
    settings = settings_of(f"data.path={tmp_path / 't'}", "data.partitioning=hive", *schema)
    with pytest.raises(ProblemsError) as caught:
        prepare_job.prepare(settings, [], now=NOW)
    assert [line.split(": did")[0] for line in caught.value.problems] == [
        "schema.numeric: train has no column 'b': choose from: a, y, day"
    ]


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "train.parquet").write_bytes(b"PAR1nothing at all")
    with pytest.raises(ProblemsError, match=r"^data\.train: train\.parquet: is truncated"):
        prepare_job.prepare(settings_of(f"data.path={tmp_path / 't'}"), [], now=NOW)


def test_a_renamed_job_is_checked_again_and_goes_on_from_the_same_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_job, "build_bundle", lambda *_, **__: BUNDLE)
    first = prepare_job.prepare(settings_of(job_name="job-1"), ["seed=3"], now=NOW)
    second = first.renamed("job-2")
    assert (second.request["TrainingJobName"], second.spec.job_name) == ("job-2", "job-2")
    assert second.request["CheckpointConfig"] == first.request["CheckpointConfig"]
    with pytest.raises(ProblemsError, match=r"launch\.job_name: 'a_b' does not match"):
        first.renamed("a_b")
