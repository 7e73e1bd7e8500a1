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
from tabstep.schema import Split
from tabstep.tables.record_batch import bounded_rows
from tabstep.training.epoch_order import EpochOrder

BATCH_SIZES = {32: 2_800, 64: 4_500, 128: 6_400, 256: 32_000, 512: 108_000, 1024: math.inf}
"""Rows of a batch, and the number of train rows from which on it is the next one."""


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


def as_tensors(table: EncodedTable) -> Batch:
    """Return a table's arrays as tensors that share the mapped memory."""
    arrays = (table.x_num, table.x_cat, table.y, table.weight)
    return Batch(*(torch.from_numpy(array) for array in arrays if array is not None))


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


class TrainLoader:
    """The rest of one training epoch, from batch ``start`` on.

    ``batch_size`` counts the rows of all ranks together; each rank takes its slice of the global batch, so that the
    number of ranks changes neither the batches nor the meaning of the learning rate.
    """

    def __init__(
        self, tensors: Batch, order: EpochOrder, *, batch_size: int, total: int, start: int, rank: int, world_size: int
    ) -> None:
        self.tensors = tensors
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
        device = self.tensors.y.device
        for batch in range(self.start, self.total):
            first = batch * self.batch_size
            end = self.order.num_rows if batch == self._last else first + self.batch_size
            size = end - first
            rows = self.order.rows(
                first + size * self.rank // self.world_size, first + size * (self.rank + 1) // self.world_size
            )
            index = torch.from_numpy(rows)
            if device.type == "cuda":
                index = index.pin_memory().to(device, non_blocking=True)
            yield self.tensors.map(partial(torch.index_select, dim=0, index=index))


class EvalLoader:
    """A rank's share of a split in file order, cut into as many batches as every other rank has.

    Nothing is padded or counted twice. Equal counts matter because distributed data parallel synchronizes buffers
    in each forward pass.
    """

    def __init__(self, tensors: Batch, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        num_rows = len(tensors.y)
        self.tensors = tensors
        self.first, self.end = num_rows * rank // world_size, num_rows * (rank + 1) // world_size
        self.count = max(1, -(-num_rows // (world_size * batch_size)))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        size = self.end - self.first
        for batch in range(self.count):
            rows = slice(self.first + size * batch // self.count, self.first + size * (batch + 1) // self.count)
            yield self.tensors.map(itemgetter(rows))


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
    begins: the checkpoint sets it when a run goes on in the middle of an epoch.
    """

    def __init__(self, tables: Mapping[Split, EncodedTable], batching: Batching, *, device_share: float = 0.4) -> None:
        super().__init__()
        self.batching = batching
        self.start_batch = 0
        self._device_share = device_share
        self._tensors = {split: as_tensors(table) for split, table in tables.items()}

    def setup(self, stage: str) -> None:
        """Move the tables to the GPU once if they fit into ``device_share`` of its free memory."""
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if device.type != "cuda":
            return
        size = sum(tensor.nbytes for part in self._tensors.values() for tensor in part.tensors)
        free, _ = torch.cuda.mem_get_info(device)
        if size <= self._device_share * free:
            self._tensors = {split: part.map(lambda t: t.to(device)) for split, part in self._tensors.items()}

    def batches_per_epoch(self, world_size: int) -> int:
        """Count the training batches of an epoch."""
        return num_batches(len(self._tensors["train"].y), self.batching.batch_size, world_size)

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        tensors, batching = self._tensors["train"], self.batching
        order = EpochOrder(
            len(tensors.y), seed=batching.seed, epoch=self.trainer.current_epoch, window=batching.shuffle_window
        )
        start, self.start_batch = self.start_batch, 0
        return TrainLoader(
            tensors,
            order,
            batch_size=batching.batch_size,
            total=self.batches_per_epoch(self.trainer.world_size),
            start=start,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def val_dataloader(self) -> EvalLoader:
        assert self.trainer is not None
        tensors = self._tensors["val"]
        return EvalLoader(
            tensors,
            batch_size=bounded_rows(self.batching.eval_batch_size, tensors.x_num.shape[1] + tensors.x_cat.shape[1]),
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Skip Lightning's walk over the batch when it lies on the device already."""
        if batch.y.device == device:
            return batch
        pinned = batch.map(Tensor.pin_memory) if device.type == "cuda" else batch
        return pinned.map(lambda tensor: tensor.to(device, non_blocking=True))
