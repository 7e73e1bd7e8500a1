"""A table of virtual shards as the Trainer gets it: each rank serves the rows of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch

from tabstep.encoding.encoded_table import EncodedTable
from tabstep.schema import Split
from tabstep.training.datamodule import Batch, Batching, TableDataModule, TrainLoader
from tabstep.training.shard_batches import ShardOrder, ShardRows


class ShardLoader(TrainLoader):
    """The rest of one training epoch, from batch ``start`` on."""

    # of TrainLoader nothing but its type and its attributes: a shard order has batches of its own
    def __init__(self, tensors: Batch, order: ShardOrder, *, start: int) -> None:
        self.tensors = tensors
        self.shard_order = order
        self.total = order.num_batches
        self.start = start

    def __iter__(self) -> Iterator[Batch]:
        device = self.tensors.y.device
        for batch in range(self.start, self.total):
            index = torch.from_numpy(self.shard_order.rows(batch))
            if device.type == "cuda":
                index = index.pin_memory().to(device, non_blocking=True)
            yield self.tensors.map(partial(torch.index_select, dim=0, index=index))


class ShardDataModule(TableDataModule):
    """Serves the shards of a rank: the batches of all ranks together hang on neither their number nor their shards."""

    def __init__(self, tables: Mapping[Split, EncodedTable], batching: Batching, shards: ShardRows) -> None:
        super().__init__(tables, batching)
        self.shards = shards

    def batches_per_epoch(self, world_size: int) -> int:
        return self.shards.num_batches(self.batching.batch_size)

    def train_dataloader(self) -> ShardLoader:
        assert self.trainer is not None
        order = ShardOrder(
            self.shards,
            seed=self.batching.seed,
            epoch=self.trainer.current_epoch,
            window=self.batching.shuffle_window,
            batch_size=self.batching.batch_size,
        )
        start, self.start_batch = self.start_batch, 0
        tensors = self._rows["train"]
        assert isinstance(tensors, Batch), "what a rank has of train lies in memory"
        return ShardLoader(tensors, order, start=start)
