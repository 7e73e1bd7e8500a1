"""Cuts encoded tables into batches, by index and never row by row: the LightningDataModule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor

from tabstep.encoding.encoded_table import EncodedTable
from tabstep.encoding.stored_rows import RowArrays
from tabstep.schema import Split
from tabstep.tables.record_batch import bounded_rows
from tabstep.training.epoch_order import BLOCK, EpochOrder
from tabstep.training.window_stream import Span, WindowStream

BATCH_SIZES = {32: 2_800, 64: 4_500, 128: 6_400, 256: 32_000, 512: 108_000, 1024: math.inf}
"""Rows of a batch, and the number of train rows from which on it is the next one."""

WINDOW_ROWS, WINDOW_BYTES = 2_000_000, 512 * 2**20
"""A shuffle window has so many rows, or those that fit into so many bytes."""


class Batch(NamedTuple):
    """``x_num`` (B, num_numeric) float32, ``x_cat`` (B, num_categorical) int32, ``y`` (B,) or (B, labels).

    ``weight`` (B,) float32 is None where every row counts alike.
    """

    x_num: Tensor
    x_cat: Tensor
    y: Tensor
    weight: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What there is of it."""
        return tuple(tensor for tensor in self if tensor is not None)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch of changed tensors."""
        return Batch(*map(change, self.tensors))

    def weighted(self, weights: Tensor) -> Tensor:
        """Multiply the weights that a loss gives to rows ``(B,)`` by the rows' own."""
        return weights if self.weight is None else weights * self.weight


Rows = Batch | EncodedTable
"""All rows of a split: tensors in memory, or a table that stays on disk."""


def as_tensors(arrays: RowArrays) -> Batch:
    """Return rows as tensors that share their memory."""
    return Batch(*map(torch.from_numpy, arrays.present))


def num_batches(num_rows: int, batch_size: int, world_size: int = 1) -> int:
    """Count the batches of a training epoch.

    A tail too short to give two rows to each rank joins the batch before it: a rank without rows would wait for ever,
    and batch normalization has no variance of one row.

    >>> num_batches(2049, 1024), num_batches(2050, 1024)
    (2, 3)
    """
    full, tail = divmod(num_rows, batch_size)
    return max(1, full + (tail >= min(batch_size, 2 * world_size)))


def auto_batch_size(num_rows: int) -> int:
    """Return the rows of a training batch for a table of so many: an epoch of a small one needs enough steps.

    The ladder of TabM's authors (Gorishniy et al. 2024, arXiv:2410.24210).

    >>> [auto_batch_size(rows) for rows in (100, 3_000, 26_000, 10_000_000)]
    [32, 64, 256, 1024]
    """
    return next(size for size, below in BATCH_SIZES.items() if num_rows < below)


def auto_window(row_bytes: int) -> int:
    """Return the rows of a shuffle window: fewer of very wide tables, as two windows may lie in memory.

    >>> auto_window(168), auto_window(4_000)
    (2000000, 134217)
    """
    return max(16 * BLOCK, min(WINDOW_ROWS, WINDOW_BYTES // max(1, row_bytes)))


class TrainLoader:
    """The rest of one training epoch, from batch ``start`` on.

    ``batch_size`` counts the rows of all ranks together; each rank takes its slice of the global batch, so that the
    number of ranks changes neither the batches nor the meaning of the learning rate.
    """

    def __init__(
        self, table: Rows, order: EpochOrder, *, batch_size: int, total: int, start: int, rank: int, world_size: int
    ) -> None:
        self.table = table
        self.order = order
        self.batch_size = batch_size
        self.total = total
        self.start = start
        self.rank = rank
        self.world_size = world_size
        self._last = num_batches(order.num_rows, batch_size, world_size) - 1

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[Batch]:
        batches = range(self.start, self.total)
        if isinstance(self.table, EncodedTable):
            yield from map(as_tensors, WindowStream(self.table, self.order, batches, self._span))
        else:
            yield from (self._gathered(self.table, *self._span(batch)) for batch in batches)

    def _span(self, batch: int) -> Span:
        """Return the positions of this rank's rows of a batch."""
        first = batch * self.batch_size
        size = (self.order.num_rows if batch == self._last else first + self.batch_size) - first
        return first + size * self.rank // self.world_size, first + size * (self.rank + 1) // self.world_size

    def _gathered(self, tensors: Batch, start: int, stop: int) -> Batch:
        index, device = torch.from_numpy(self.order.rows(start, stop)), tensors.y.device
        if device.type == "cuda":  # from pinned memory, so that nothing waits for the copy
            index = index.pin_memory().to(device, non_blocking=True)
        return tensors.map(partial(torch.index_select, dim=0, index=index))


class EvalLoader:
    """A rank's share of a split in file order, cut into as many batches as every other rank has.

    Nothing is padded or counted twice. Equal counts matter because distributed data parallel synchronizes buffers
    in each forward pass.
    """

    def __init__(self, table: Rows, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        num_rows = len(table.y)
        self.table = table
        self.first, self.end = num_rows * rank // world_size, num_rows * (rank + 1) // world_size
        self.count = max(1, -(-num_rows // (world_size * batch_size)))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        size = self.end - self.first
        for batch in range(self.count):
            start, stop = self.first + size * batch // self.count, self.first + size * (batch + 1) // self.count
            if isinstance(self.table, EncodedTable):
                yield as_tensors(self.table.part(start, stop))
            else:
                yield self.table.map(itemgetter(slice(start, stop)))


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How splits are cut: rows of a training batch (all ranks), of an evaluation batch and of a shuffle window."""

    batch_size: int
    eval_batch_size: int
    shuffle_window: int
    seed: int


class TableDataModule(L.LightningDataModule):
    """Serves encoded tables to the Trainer, which must be made with ``reload_dataloaders_every_n_epochs=1``.

    Each epoch gets a new loader, whose order follows from the epoch's number. ``start_batch`` is where the next one
    begins: the checkpoint sets it when a run goes on in the middle of an epoch. Batches are the same, bit for bit,
    whether a table is in memory or not.
    """

    def __init__(self, tables: Mapping[Split, EncodedTable], batching: Batching, *, device_share: float = 0.4) -> None:
        super().__init__()
        self.batching = batching
        self.start_batch = 0
        self._device_share = device_share
        self._rows: dict[Split, Rows] = {
            split: as_tensors(table.arrays) if table.in_memory else table for split, table in tables.items()
        }

    def setup(self, stage: str) -> None:
        """Move the tables to the GPU once if they fit into ``device_share`` of its free memory."""
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if device.type != "cuda":
            return
        held = {split: rows for split, rows in self._rows.items() if isinstance(rows, Batch)}
        size = sum(tensor.nbytes for part in held.values() for tensor in part.tensors)
        free, _ = torch.cuda.mem_get_info(device)
        if size <= self._device_share * free:
            self._rows |= {split: part.map(lambda t: t.to(device)) for split, part in held.items()}

    def batches_per_epoch(self, world_size: int) -> int:
        """Count the training batches of an epoch."""
        return num_batches(len(self._rows["train"].y), self.batching.batch_size, world_size)

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        table, batching = self._rows["train"], self.batching
        order = EpochOrder(
            len(table.y), seed=batching.seed, epoch=self.trainer.current_epoch, window=batching.shuffle_window
        )
        # only the epoch that was broken off begins in its middle
        start, self.start_batch = self.start_batch, 0
        return TrainLoader(
            table,
            order,
            batch_size=batching.batch_size,
            total=self.batches_per_epoch(self.trainer.world_size),
            start=start,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def val_dataloader(self) -> EvalLoader:
        assert self.trainer is not None
        table = self._rows["val"]
        return EvalLoader(
            table,
            batch_size=bounded_rows(self.batching.eval_batch_size, table.x_num.shape[1] + table.x_cat.shape[1]),
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Skip Lightning's walk over the batch when it lies on the device already."""
        if batch.y.device == device:
            return batch
        pinned = batch.map(Tensor.pin_memory) if device.type == "cuda" else batch
        return pinned.map(lambda tensor: tensor.to(device, non_blocking=True))
