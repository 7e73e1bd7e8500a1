"""What a table must offer to be looked at, checked and encoded, wherever its rows lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa


class Rows(Protocol):
    """What is known of a table without reading a row of it."""

    @property
    def where(self) -> str: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def arrow_schema(self) -> pa.Schema: ...


class TypedTable(Rows, Protocol):
    """Rows that stream with known types; ``ParquetSource`` is the main one."""

    @property
    def conflicts(self) -> Mapping[str, str]: ...
    def batches(self, columns: Sequence[str], rows: int = ...) -> Iterator[pa.RecordBatch]: ...
