from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.launch.conftest import BUCKET
from tests.launch.jobs import settings_of

pytest.importorskip("moto")

from tabstep.errors import ProblemsError, UserError
from tabstep.launch.s3 import channels
from tabstep.launch.s3.channels import check_channels

WANTED = settings_of("schema.label=churned", "schema.numeric=[age]").schema


def put(s3: Any, key: str, *names: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: [1, 2] for name in names}), buffer)
    s3.put_object(Bucket=BUCKET, Key=key, Body=buffer.getvalue())


def uris(**places: str) -> dict[str, str]:
    return {split: f"s3://{BUCKET}/{place}" for split, place in places.items()}


def test_tables_with_the_declared_columns_pass(s3: Any) -> None:
    put(s3, "t/train/a.parquet", "age", "churned")
    put(s3, "val.parquet", "churned", "age")
    check_channels(uris(train="t/train/", val="val.parquet"), WANTED, s3)


def test_missing_columns_and_tables_are_named_at_once(s3: Any) -> None:
    put(s3, "t/train/a.parquet", "agee", "churned")
    put(s3, "t/test/_hidden.parquet", "x")
    s3.put_object(Bucket=BUCKET, Key="t/test/rows.csv", Body=b"age,churned")
    with pytest.raises(ProblemsError) as caught:
        check_channels(uris(train="t/train/", val="t/val/", test="t/test/"), WANTED, s3)
    none = "set it to where there is one, or launch.channels to the splits that there are"
    assert caught.value.problems == (
        f"data.val: there is no parquet file at s3://{BUCKET}/t/val/: {none}",
        f"data.test: there is no parquet file at s3://{BUCKET}/t/test/: {none}",
        "schema.numeric: train has no column 'age': did you mean 'agee'?",
    )


def test_directories_are_columns_of_a_hive_table(s3: Any) -> None:
    put(s3, "t/train/day=1/a.parquet", "age", "churned")
    wanted = replace(WANTED, categorical=["day"])
    check_channels(uris(train="t/train/"), wanted, s3, hive=True)
    with pytest.raises(ProblemsError, match="train has no column 'day'"):
        check_channels(uris(train="t/train/"), wanted, s3)


def test_a_footer_is_read_without_its_table(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"age": range(50_000), "churned": range(50_000)}), buffer)
    s3.put_object(Bucket=BUCKET, Key="t/train/a.parquet", Body=buffer.getvalue())
    monkeypatch.setattr(channels, "_TAIL", 4096)
    assert len(buffer.getvalue()) > 100_000
    check_channels(uris(train="t/train/"), WANTED, s3)


@pytest.mark.parametrize("why", ["denied", "no parquet"])
def test_what_cannot_be_read_here_is_no_mistake(
    s3: Any, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from botocore.exceptions import ClientError

    def denied(*_: Any, **__: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, "GetObject")

    s3.put_object(Bucket=BUCKET, Key="t/train/a.parquet", Body=b"PAR1nothing")
    if why == "denied":
        monkeypatch.setattr(s3, "get_object", denied)
    check_channels(uris(train="t/train/"), WANTED, s3)
    assert capsys.readouterr().err.startswith(f"warning: data.train: was not looked at: s3://{BUCKET}/t/train/")


def test_a_bucket_that_is_missing_is_a_mistake(s3: Any) -> None:
    with pytest.raises(UserError, match=r"^s3://no-such-bucket/t/: AWS refuses ListObjectsV2: .*: create it"):
        check_channels({"train": "s3://no-such-bucket/t/"}, WANTED, s3)
