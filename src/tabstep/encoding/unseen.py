"""Columns whose values a table writes otherwise than train did: none of them has a code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tabstep.encoding.categorical import UNSEEN, CategoricalColumn
from tabstep.tables.record_batch import texts


def unseen_columns(columns: Sequence[CategoricalColumn], batch: pa.RecordBatch) -> Iterator[str]:
    """Yield a line for each column of which no value in ``batch`` was seen in train, such as True for yes.

    Columns with more values than were remembered are passed over: there a new value is nothing special.
    """
    for column in columns:
        if column.open_ended or not column.values:
            continue
        found = pc.drop_null(texts(batch, column.name, column.kind))
        if len(found) and (column.codes(found) == UNSEEN).all():
            known = ", ".join(map(repr, column.values[:2])) + ", …" * (len(column.values) > 2)
            yield (
                f"column {column.name!r}: none of its values in the first {len(batch):,} rows was seen in train, such "
                f"as {found[0].as_py()!r}, where train has {known}: is it written otherwise?"
            )
