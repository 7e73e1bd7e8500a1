"""The columns of a job's tables, here and on S3: by their headers, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow.parquet as pq
from pyarrow import ArrowException, BufferReader

from tabstep.config.settings import SchemaSettings, Settings
from tabstep.errors import UserError, collecting, nearest, raise_problems
from tabstep.launch.s3.aws_errors import DENIED, code, refusals
from tabstep.launch.s3.transfer import stored_keys
from tabstep.launch.s3.upload import is_read
from tabstep.schema import Split
from tabstep.system.exits import say
from tabstep.tables.footers import partition_of, read_footers
from tabstep.tables.locations import Location

_TAIL: Final = 2**20  # bytes that hold the footer of all but the widest files


def column_problems(locations: Mapping[Split, Location], settings: Settings) -> list[str]:
    """Return what is wrong with the files of local splits, and the declared columns that they lack."""
    problems: list[str] = []
    columns: dict[str, list[str]] = {}
    for split, location in locations.items():
        with collecting(problems):
            footers = read_footers(location, where=f"data.{split}", hive=settings.data.partitioning == "hive")
            named = [[*footer.schema.names, *(key for key, _ in footer.partition)] for footer in footers]
            columns[split] = [name for name in named[0] if all(name in names for names in named)]
    return [*problems, *_missing_columns(columns, settings.schema)]


def check_channels(channels: Mapping[str, str], schema: SchemaSettings, client: Any, *, hive: bool = False) -> None:
    """Check that each channel has a table with the declared columns, by its first file: there may be thousands.

    What this user may not read is no mistake: the job's role may. Then a warning says that it was not looked at.

    Args:
        channels: address by split.
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
            columns[split] = _stored_columns(client, uri, hive)
        except FileNotFoundError:
            problems.append(
                f"data.{split}: there is no parquet file at {uri}: set it to where there is one, or launch.channels to "
                "the splits that there are"
            )
        except UserError as error:
            if not isinstance(error.__cause__, ArrowException) and code(error) not in DENIED:
                raise
            say(f"warning: data.{split}: was not looked at: {error}")
    raise_problems([*problems, *_missing_columns(columns, schema)])


def _stored_columns(client: Any, uri: str, hive: bool) -> list[str]:
    """Return the columns of the first table at an address, with those that its directories name.

    Raises:
        FileNotFoundError: there is none.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    with refusals(uri):
        keys = stored_keys(client, bucket, prefix)
        key = next((key for key in keys if is_read(key.removeprefix(prefix) or key.rpartition("/")[2])), None)
        if key is None:
            raise FileNotFoundError(uri)
        tail = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{_TAIL}")["Body"].read()
    try:
        names = list(pq.read_schema(BufferReader(tail)).names)
    except ArrowException as error:
        raise UserError(f"s3://{bucket}/{key}: {str(error).splitlines()[0]}") from error
    return [*names, *(name for name, _ in partition_of(key) if hive)]


def _missing_columns(columns: Mapping[str, Sequence[str]], schema: SchemaSettings) -> Iterator[str]:
    """Yield one line for each declared column that a split's files lack."""
    declared = {
        "schema.id": [] if schema.id is None else [schema.id],
        "schema.label": [schema.label] if isinstance(schema.label, str) else schema.label or [],
        "schema.weight": [] if schema.weight is None else [schema.weight],
        "schema.numeric": schema.numeric or [],
        "schema.categorical": schema.categorical or [],
    }
    for split, present in columns.items():
        for key, names in declared.items():
            for name in names:
                if name not in present:
                    yield f"{key}: {split} has no column {name!r}: {nearest(name, present)}"
