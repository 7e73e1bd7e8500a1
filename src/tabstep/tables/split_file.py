"""``tabstep split``: cuts one table into train, val and test parquet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from tabstep.errors import UserError
from tabstep.schema import SPLITS, Split
from tabstep.system.atomic_write import publishing
from tabstep.system.exits import writing
from tabstep.tables.readers import open_rows
from tabstep.tables.row_groups import RowGroupWriter
from tabstep.tables.splits import Cut, cut_rows
from tabstep.tables.typed_table import TypedTable


def split_table(
    location: str,
    out_dir: str | Path,
    *,
    cut: Cut,
    val_share: float = 0.16,
    test_share: float = 0.2,
    overwrite: bool = False,
) -> dict[Split, int]:
    """Write ``out_dir/{train,val,test}/{split}.parquet`` and return the rows of each.

    The table is streamed with bounded memory. Rows keep their order, and pages carry checksums.

    Raises:
        UserError: shares that leave a split without rows, a file that exists, or a table that cannot be read.
        RetryError: the disk is full.
    """
    if not (0 <= val_share < 1 and 0 <= test_share < 1 and val_share + test_share < 1):
        raise UserError(f"shares: val {val_share} and test {test_share} must be >= 0 and together below 1")
    shares: dict[Split, float] = {"val": val_share, "test": test_share}
    wanted: list[Split] = [split for split in SPLITS if shares.get(split, 1) > 0]
    paths = {split: Path(out_dir) / split / f"{split}.parquet" for split in wanted}
    existing = [str(path) for path in paths.values() if path.exists()]
    if existing and not overwrite:
        raise UserError(f"{existing[0]}: exists already: choose another directory, or replace it with --overwrite")
    table = open_rows(location, where=location)
    part = cut_rows(table, cut, [val_share, test_share])
    numbers = {"train": 0, "val": 1, "test": 2}
    counts = {split: int(np.count_nonzero(part == numbers[split])) for split in wanted}
    for split, count in counts.items():
        if not count:
            raise UserError(f"shares: {split} would have none of the {table.num_rows} rows: change its share")
    _write(table, part, {path: numbers[split] for split, path in paths.items()})
    return counts


def _write(table: TypedTable, part: np.ndarray, paths: dict[Path, int]) -> None:
    with writing(f"{next(iter(paths)).parent.parent}: cannot be written"), ExitStack() as stack:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        files = {path: stack.enter_context(publishing(path)) for path in reversed(paths)}
        writers = {path: RowGroupWriter(file, table.arrow_schema) for path, file in files.items()}
        start = 0
        for batch in table.batches(table.arrow_schema.names):
            here = part[start : start + batch.num_rows]
            for path, number in paths.items():
                writers[path].add(batch.filter(pa.array(here == number)))
            start += batch.num_rows
        for writer in writers.values():
            writer.close()
