"""The rows of a table that are explained, and those that say what is usual in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tabstep.analysis.sampled_rows import limit_cells, one_batch, row_count, sample_batches, sample_places
from tabstep.artifact.predictor import Predictor
from tabstep.errors import UserError, nearest
from tabstep.tables.column_types import to_text
from tabstep.tables.frames import is_location, to_table
from tabstep.tables.parse_text import parsed_batch

REFERENCE_ROWS: Final = 1_000
_LEAST_REFERENCE: Final = 20


def read_rows(predictor: Predictor, table: Any, limit: int) -> tuple[pa.RecordBatch, int]:
    """Return at most ``limit`` rows, evenly spread, and how many there are.

    They have the columns that the model knows, those of ``schema.parse`` read as in training.
    """
    schema = predictor.encoder.schema
    batches, total = _batches(predictor, table)
    if not total:
        raise UserError("table: holds no rows: give it at least one")
    some = sample_batches(batches, total, limit_cells(limit, len(schema.features)))
    return parsed_batch(some, dict(schema.parse)), total


def rows_of_ids(predictor: Predictor, table: Any, ids: Sequence[str | int]) -> pa.RecordBatch:
    """Return the rows of a table that have these ids, as ``read_rows`` does.

    Raises:
        UserError: the model knows no id, the table lacks it, or no row has one of them.
    """
    schema = predictor.encoder.schema
    wanted = pa.array([ids] if isinstance(ids, str) else [str(name) for name in ids])
    if schema.id is None:
        raise UserError("id: the model knows no column of ids: train with schema.id, or give these rows alone")
    parts: list[pa.RecordBatch] = []
    for batch in _batches(predictor, table)[0]:
        if schema.id not in batch.schema.names:
            raise UserError(f"table: column {schema.id!r} is missing, which names the rows: give these rows alone")
        parts.append(batch.filter(pc.is_in(to_text(batch.column(schema.id)), value_set=wanted)))
    seen = {name for part in parts for name in to_text(part.column(schema.id)).to_pylist()}
    if missing := set(wanted.to_pylist()) - seen:
        raise UserError(f"id: no row of the table has {schema.id} {min(missing)!r}")
    return parsed_batch(one_batch(parts), dict(schema.parse))


def usual_rows(predictor: Predictor, batch: pa.RecordBatch, total: int, wanted: Any) -> pa.RecordBatch:
    """Return rows of the table ``wanted``, where attributions begin, or else of the ``total`` that ``batch`` is of.

    Raises:
        UserError: there is no other table, and this one has too few rows to say what is usual.
    """
    if wanted is not None:
        return read_rows(predictor, wanted, REFERENCE_ROWS)[0]
    if total < _LEAST_REFERENCE:
        raise UserError(
            f"reference: is missing, and the {row_count(total, total)} of the table cannot tell what is usual: name "
            "a table that can, such as train (--reference, in Python reference=)"
        )
    return reference_rows(batch)


def reference_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return enough rows of a table to say what is usual in it."""
    return batch.take(pa.array(sample_places(batch.num_rows, REFERENCE_ROWS)))


def _batches(predictor: Predictor, table: Any) -> tuple[Iterator[pa.RecordBatch], int]:
    """Return the rows of a table with the columns that the model knows, and how many there are."""
    schema = predictor.encoder.schema
    if is_location(table):
        source = predictor.open_table(table)
        names = _known(schema.columns, schema.features, source.arrow_schema.names)
        return source.batches(names), source.num_rows
    rows = to_table(table, where="table")
    names = _known(schema.columns, schema.features, rows.schema.names)
    return iter(rows.select(names).to_batches()), rows.num_rows


def _known(columns: Sequence[str], features: Sequence[str], names: Sequence[str]) -> list[str]:
    missing = [name for name in features if name not in names]
    if missing:
        raise UserError(f"table: column {missing[0]!r} is missing: {nearest(missing[0], names)}")
    return [name for name in columns if name in names]
