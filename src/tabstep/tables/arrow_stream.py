"""A stream of Arrow record batches: masked, joined to fewer, and brought to the schema of their table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from tabstep.tables.column_types import is_text, value_type
from tabstep.tables.parse_text import parsed


def masked(batches: Iterator[pa.RecordBatch], mask: np.ndarray | None) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        stop = start + batch.num_rows
        if mask is None or mask[start:stop].all():
            yield batch
        elif mask[start:stop].any():
            yield batch.filter(pa.array(mask[start:stop]))
        start = stop


def joined(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Join batches that have no more than ``rows`` rows together: what is done with one costs the same for few."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        if waiting and count + batch.num_rows > rows:
            yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
            waiting, count = [], 0
        waiting.append(batch)
        count += batch.num_rows
    if waiting:
        yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)


def has_small_codes(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(dtype) and dtype.index_type.bit_width < 32)


def conformed(
    batch: pa.RecordBatch, schema: pa.Schema, partition: Mapping[str, str | None], parse: Mapping[str, str]
) -> pa.RecordBatch:
    """Return the columns of ``schema``, in its order and types; a partition key's value fills its column."""
    check_text(batch)
    index = {name: position for position, name in enumerate(batch.schema.names)}
    arrays = []
    for field in schema:
        if field.name in index:
            array = batch.column(index[field.name])
        else:
            # as text, and cast below to what all values of the key are
            array = pa.repeat(pa.scalar(partition.get(field.name), pa.string()), batch.num_rows)
        if field.name in parse:
            array = parsed(array, parse[field.name], field.name)
        arrays.append(array if array.type == field.type else _cast(array, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(dtype):
        array = array.dictionary_decode()
    # a whole number beyond 2**53 has no float of its own: the nearest one is taken
    return array.cast(dtype, safe=not pa.types.is_floating(dtype))


def check_text(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid for text that is not UTF-8, which later ends in a UnicodeDecodeError far from the file."""
    for column in batch.columns:
        if is_text(value_type(column.type)):
            column.validate(full=True)
