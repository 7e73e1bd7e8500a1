"""One split encoded once: contiguous row-major arrays on disk, memory-mapped, keyed by the data and the encoder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from tabstep.encoding.encoder import Encoder
from tabstep.encoding.row_weights import check_total, row_weights
from tabstep.encoding.statistics_fit import FoldSums
from tabstep.encoding.stored_rows import RowArrays, forget_pages, read_rows, take_rows
from tabstep.errors import RetryError, UserError
from tabstep.system.cache import DAMAGE, publish, read_sealed, write_sealed
from tabstep.system.ordered_map import ordered_map
from tabstep.tables.column_types import value_type
from tabstep.tables.scan import numbered
from tabstep.tables.source import ParquetSource

# to be raised where rows are encoded otherwise: the cache holds tables of earlier versions
_TABLE_FORMAT: Final = 2
_ROWS: Final = "rows.arrow"
_META: Final = "meta.json"
_WEIGHT: Final = "weight.bin"
_PIECE: Final = 2**20
_BLOCK: Final = 8 * 2**20
_THREADS: Final = 4


@dataclass(frozen=True, kw_only=True)
class EncodedTable:
    """One split: ``x_num`` (N, n) float32, ``x_cat`` (N, c) int32, ``y`` (N,) int64 or (N, labels) float32.

    ``weight`` (N,) float32 where rows have weights, else None.

    The arrays are mapped from files, copy on write: many processes share them, and none can change them. Where
    ``in_memory`` is False, they are more than memory should hold: mapped for reading alone, and ``part`` and ``take``
    read rows from the files.

    >>> table = EncodedTable(
    ...     split="val",
    ...     fingerprint="",
    ...     x_num=np.zeros((3, 2), dtype=np.float32),
    ...     x_cat=np.zeros((3, 1), dtype=np.int32),
    ...     y=np.array([0, 1, 0]),
    ...     rows_file=Path("rows.arrow"),
    ... )
    >>> table.num_rows
    3
    """

    split: str
    fingerprint: str
    x_num: np.ndarray
    x_cat: np.ndarray
    y: np.ndarray
    rows_file: Path
    weight: np.ndarray | None = None
    in_memory: bool = True

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def arrays(self) -> RowArrays:
        """All arrays, as they are mapped."""
        return RowArrays(self.x_num, self.x_cat, self.y, self.weight)

    def part(self, start: int, stop: int) -> RowArrays:
        """Return the rows ``start`` to ``stop`` (exclusive): views, or read from the files."""
        stop = min(stop, self.num_rows)
        if self.in_memory:
            return self.arrays.map(lambda array: array[start:stop])
        return self.arrays.map(lambda array: read_rows(array, start, stop))

    def parts(self, rows: int) -> Iterator[RowArrays]:
        """Yield all rows in their order, ``rows`` at a time."""
        return (self.part(start, start + rows) for start in range(0, self.num_rows, rows))

    def take(self, places: np.ndarray) -> RowArrays:
        """Return the rows at ``places``, which ascend, as a copy."""
        if self.in_memory:
            return self.arrays.map(lambda array: array[places])
        return self.arrays.map(lambda array: take_rows(array, places))

    def rows(self) -> pa.Table:
        """Return the id and label columns as they are in the source, in the order of the arrays; not copied."""
        with pa.memory_map(str(self.rows_file)) as file:
            return pa.ipc.open_file(file).read_all().slice(0, self.num_rows)

    def row_parts(self, rows: int) -> Iterator[pa.Table]:
        """Yield what ``rows`` returns, ``rows`` at a time."""
        with self.rows_file.open("rb") as file:
            reader = pa.ipc.open_file(file)
            held, left = reader.schema.empty_table(), self.num_rows
            batches = map(reader.get_batch, range(reader.num_record_batches))
            while left:
                while held.num_rows < min(rows, left):
                    held = pa.concat_tables([held, pa.Table.from_batches([next(batches)])])
                count = min(rows, left)
                yield held.slice(0, count)
                held, left = held.slice(count), left - count

    def head(self, rows: int) -> EncodedTable:
        """Return the first rows as a table of their own: views, nothing is copied."""
        weight = None if self.weight is None else self.weight[:rows]
        return replace(self, x_num=self.x_num[:rows], x_cat=self.x_cat[:rows], y=self.y[:rows], weight=weight)


def row_bytes(encoder: Encoder) -> int:
    """Return the bytes of an encoded row."""
    label = 4 * encoder.num_classes if encoder.task == "multilabel" else 8
    weight = 0 if encoder.schema.weight is None else 4
    return 4 * (encoder.num_numeric + len(encoder.cardinalities)) + label + weight


def encode_table(
    source: ParquetSource, encoder: Encoder, cache_dir: Path, *, fitted_on: bool = False, in_memory: bool = True
) -> EncodedTable:
    """Encode ``source``, or open what an earlier call has encoded.

    ``fitted_on``: the encoder was fitted on this source, so that target statistics must not show a row its own label.
    ``in_memory``: whether memory can hold the rows.
    The directory under ``cache_dir`` appears complete or not at all; a damaged one is built again.

    Raises:
        UserError: a label is null or unknown, a column is missing, or ``cache_dir`` cannot be written.
        RetryError: the disk is full.
    """
    # rows that hide their own labels from rates of the target are others than those of a prediction
    key = f"{_TABLE_FORMAT} {source.fingerprint()} {encoder.fingerprint()} {fitted_on and bool(encoder.statistics)}"
    fingerprint = hashlib.sha256(key.encode()).hexdigest()

    def build(directory: Path) -> None:
        fold_sums = encoder.fold_sums([source], source.num_rows) if fitted_on else None
        _build([source], encoder, directory, fingerprint, fold_sums=fold_sums)

    return publish(
        cache_dir / fingerprint[:16],
        build=build,
        load=lambda directory: _open(directory, fingerprint, source.split, in_memory=in_memory),
    )


class EncodedShards:
    """The shards of train that a rank has, as one encoded table: one shard behind the other.

    Args:
        table: the fingerprint of the whole table, of which each rate of the target is made.
        mean_weight: that of all of the table's rows, where they have weights.
    """

    def __init__(
        self,
        shards: Sequence[ParquetSource],
        encoder: Encoder,
        cache_dir: Path,
        *,
        table: str,
        mean_weight: float | None = None,
    ) -> None:
        self._shards, self._encoder, self._mean_weight = shards, encoder, mean_weight
        # the row numbers too, for folds and samples go by them
        own = [[shard.first_row, shard.fingerprint()] for shard in shards]
        key = json.dumps([_TABLE_FORMAT, table, own, encoder.fingerprint()])
        self._fingerprint = hashlib.sha256(key.encode()).hexdigest()
        self._directory = cache_dir / self._fingerprint[:16]

    def kept(self) -> EncodedTable | None:
        """Return what an earlier call has encoded, if that is there and whole."""
        try:
            return self._load(self._directory)
        except DAMAGE:
            return None

    def encoded(self, fold_sums: FoldSums | None) -> EncodedTable:
        """Encode the rows; ``fold_sums`` are those of all rows of the table."""
        return publish(
            self._directory,
            build=lambda directory: _build(
                self._shards,
                self._encoder,
                directory,
                self._fingerprint,
                fold_sums=fold_sums,
                mean_weight=self._mean_weight,
            ),
            load=self._load,
        )

    def _load(self, directory: Path) -> EncodedTable:
        return _open(directory, self._fingerprint, self._shards[0].split, in_memory=True)


def _fields(source: ParquetSource, names: Sequence[str]) -> pa.Schema:
    """Return the types in which columns are kept, without dictionaries.

    The file format cannot replace a dictionary between batches, and parquet files have one a row group.

    Raises:
        UserError: a column is missing, which ``data.checks=warn`` and ``off`` let pass.
    """
    for name in names:
        if name not in source.arrow_schema.names:
            raise UserError(f"{source.where}: column {name!r}: is missing: add it, or leave the split out")
    return pa.schema([(name, value_type(source.arrow_schema.field(name).type)) for name in names])


def _build(
    sources: Sequence[ParquetSource],
    encoder: Encoder,
    directory: Path,
    fingerprint: str,
    *,
    fold_sums: FoldSums | None,
    mean_weight: float | None = None,
) -> None:
    """Encode the rows of ``sources``, one after the other; weights are divided by their mean, or by that of a table."""
    schema, source = encoder.schema, sources[0]
    # id and label, which predictions repeat
    kept = schema.columns[: len(schema.columns) - len(schema.features)]
    fields = _fields(source, kept)
    row, total = 0, 0.0
    with ExitStack() as stack:
        names = ("x_num", "x_cat", "y", *(("weight",) if schema.weight is not None else ()))
        files = {name: stack.enter_context(open(directory / f"{name}.bin", "wb")) for name in names}
        rows = stack.enter_context(open(directory / _ROWS, "wb"))
        writer = stack.enter_context(pa.ipc.new_file(rows, fields))

        def encoded(piece: tuple[pa.RecordBatch, int]) -> tuple[dict[str, np.ndarray], pa.RecordBatch]:
            batch, first_row = piece
            num, cat = encoder.transform(batch, first_row=first_row, fold_sums=fold_sums)
            labels = encoder.encode_labels(batch, first_row=first_row, where=source.where)
            arrays = {"x_num": num, "x_cat": cat, "y": labels}
            if schema.weight is not None:
                arrays["weight"] = row_weights(batch, schema.weight, first_row=first_row, where=source.where)
            return arrays, batch.select(kept).cast(fields)

        columns = (*schema.columns, *schema.weights)
        pieces = chain.from_iterable(numbered(part.batches(columns), part.first_row) for part in sources)
        for arrays, others in ordered_map(encoded, pieces):
            for name, array in arrays.items():
                # in the order of the table: threads encode, one writes
                files[name].write(array.data)
            if "weight" in arrays:
                total += float(arrays["weight"].sum())
            writer.write_batch(others)
            row += others.num_rows
    if schema.weight is not None:
        check_total(total if mean_weight is None else mean_weight, schema.weight, where=source.where)
        _normalize(directory / _WEIGHT, row, mean_weight or total / row)
    widths = {"x_num": encoder.num_numeric, "x_cat": len(encoder.cardinalities)}
    if encoder.task == "multilabel":
        widths["y"] = encoder.num_classes
    seals = {path.name: _seal(path) for path in sorted(directory.iterdir())}
    meta = {"fingerprint": fingerprint, "num_rows": row, "widths": widths, "files": seals}
    write_sealed(directory / _META, json.dumps(meta))


def _normalize(path: Path, rows: int, mean: float) -> None:
    """Turn float64 weights into float32 ones with a mean of 1: only their ratios count, and sums stay in range."""
    given = np.memmap(path, dtype=np.float64, mode="r", shape=(rows,))
    single = path.with_suffix(".single")
    with open(single, "wb") as file:
        for start in range(0, rows, _PIECE):
            file.write((given[start : start + _PIECE] / mean).astype(np.float32).data)
    del given
    single.replace(path)


def _open(directory: Path, fingerprint: str, split: str, *, in_memory: bool) -> EncodedTable:
    """Raise ``ValueError`` or ``OSError`` when anything is not as it was written."""
    meta = json.loads(read_sealed(directory / _META))
    if meta["fingerprint"] != fingerprint:
        raise ValueError(f"fingerprint {meta['fingerprint']}")
    for name, seal in meta["files"].items():
        if not (directory / name).is_file() or _seal(directory / name, keep=in_memory) != seal:
            raise ValueError(f"{name} has changed")
    num_rows, widths = meta["num_rows"], meta["widths"]
    label_type: type[np.generic] = np.float32 if "y" in widths else np.int64
    label_shape = (num_rows, widths["y"]) if "y" in widths else (num_rows,)
    # the kernel refuses what can be written to and is larger than all of memory, though nobody writes
    mode: Literal["c", "r"] = "c" if in_memory else "r"
    return EncodedTable(
        split=split,
        fingerprint=fingerprint,
        x_num=_map(directory / "x_num.bin", np.float32, (num_rows, widths["x_num"]), mode),
        x_cat=_map(directory / "x_cat.bin", np.int32, (num_rows, widths["x_cat"]), mode),
        y=_map(directory / "y.bin", label_type, label_shape, mode),
        rows_file=directory / _ROWS,
        weight=_map(directory / _WEIGHT, np.float32, (num_rows,), mode) if _WEIGHT in meta["files"] else None,
        in_memory=in_memory,
    )


def _seal(path: Path, *, keep: bool = True) -> list[int]:
    """Return the size and the checksum of each block: all of a file is verified whenever it is opened.

    ``keep``: the page cache keeps what is read, for what comes next.

    Measured: 0.53 s of one core for each GiB that the page cache holds (0.7 s on two busy cores).
    """
    with open(path, "rb") as file, ThreadPoolExecutor(max_workers=_THREADS) as pool:
        size = os.fstat(file.fileno()).st_size

        # pread: the threads have no place in the file in common; crc32 lets go of the interpreter
        def checksum(start: int) -> int:
            found = 0
            for place in range(start, min(start + _BLOCK, size), _PIECE):
                found = zlib.crc32(os.pread(file.fileno(), _PIECE, place), found)
            if not keep:
                forget_pages(file.fileno(), start, _BLOCK)
            return found

        return [size, *pool.map(checksum, range(0, size, _BLOCK))]


def _map(path: Path, dtype: type[np.generic], shape: tuple[int, ...], mode: Literal["c", "r"]) -> np.ndarray:
    # an empty file cannot be mapped
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    try:
        return np.memmap(path, dtype=dtype, mode=mode, shape=shape)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        size = f"{path.stat().st_size / 2**30:,.2f} GiB of {path.name}"
        raise RetryError(
            f"data.in_memory: {size} do not fit into the memory that is allowed: set it to auto"
        ) from error
