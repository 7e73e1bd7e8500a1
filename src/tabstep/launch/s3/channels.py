"""What lies at the S3 addresses of a job's channels: looked at before the job is sent, as far as this user may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow.parquet as pq
from pyarrow import ArrowException, BufferReader

from tabstep.errors import ProblemsError, UserError
from tabstep.launch.request.validate import missing_columns
from tabstep.launch.s3.aws_errors import code, refusals
from tabstep.launch.s3.upload import is_read
from tabstep.system.exits import say

_DENIED: Final = ("AccessDenied", "403")
_TAIL: Final = 2**20  # bytes that hold the footer of all but the widest files


def check_channels(
    channels: Mapping[str, str], wanted: Mapping[str, Sequence[str]], client: Any, *, hive: bool = False
) -> None:
    """Check that each channel has a table with the declared columns, by its first file: there may be thousands.

    What this user may not read is no mistake: the job's role may. Then a warning says that it was not looked at.

    Args:
        channels: address by split.
        wanted: the declared columns by the key that declares them.
        client: of S3, made by boto3.

    Raises:
        ProblemsError: one line for each channel without a table, and for each column that one lacks.
        UserError: there is no such bucket, or there are no credentials.
        RetryError: S3 cannot be reached.
    """
    problems: list[str] = []
    columns: dict[str, list[str]] = {}
    for split, uri in channels.items():
        try:
            columns[split] = _columns(client, uri, hive)
        except FileNotFoundError:
            problems.append(
                f"data.{split}: there is no parquet file at {uri}: set it to where there is one, or launch.channels to "
                "the splits that there are"
            )
        except UserError as error:
            if not isinstance(error.__cause__, ArrowException) and code(error.__cause__) not in _DENIED:
                raise
            say(f"warning: data.{split}: was not looked at: {error}")
    problems += missing_columns(columns, wanted)
    if problems:
        raise ProblemsError(problems)


def _columns(client: Any, uri: str, hive: bool) -> list[str]:
    """Return the columns of the first table at an address, with those that its directories name.

    Raises:
        FileNotFoundError: there is none.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    with refusals(uri):
        key = _first_table(client, bucket, prefix)
        if key is None:
            raise FileNotFoundError(uri)
        tail = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{_TAIL}")["Body"].read()
    try:
        names = list(pq.read_schema(BufferReader(tail)).names)
    except ArrowException as error:
        raise UserError(f"s3://{bucket}/{key}: {str(error).splitlines()[0]}") from error
    return names + [part.partition("=")[0] for part in key.split("/")[:-1] if hive and "=" in part]


def _first_table(client: Any, bucket: str, prefix: str) -> str | None:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = (item["Key"] for page in pages for item in page.get("Contents", ()))
    return next((key for key in keys if is_read(key.removeprefix(prefix) or key.rpartition("/")[2])), None)
