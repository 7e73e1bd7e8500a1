"""When a run saves its state, and how it goes on from what was saved."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from tabstep.training.callbacks.foreign_callbacks import check_states
from tabstep.training.checkpoint_store import CheckpointStore
from tabstep.training.classifier import Classifier
from tabstep.training.datamodule import TableDataModule
from tabstep.training.stopping import StopRule, selected_row

AGREE_STEPS = 16
"""Steps between two agreements of several ranks on saving or stopping: each is a small all-reduce."""


class StopTraining(Exception):  # noqa: N818 - not a fault: the state is saved
    """Ends the Trainer's loop in mid-epoch after a save; ``signum`` is None when the time was up."""

    def __init__(self, signum: int | None) -> None:
        super().__init__("time is up" if signum is None else f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


@dataclass(frozen=True, kw_only=True)
class SaveRule:
    """How often a run is saved within an epoch: every n optimizer steps or t seconds, whichever comes first."""

    every_n_steps: int | None = None
    every_seconds: float | None = 300.0

    def due(self, steps: int, seconds: float) -> bool:
        """Tell whether a save is due so many steps and seconds after the last one."""
        by_steps = self.every_n_steps is not None and steps >= self.every_n_steps
        return by_steps or (self.every_seconds is not None and seconds >= self.every_seconds)


class Checkpointer(Checkpoint):
    """Saves after optimizer steps and at the very end of an epoch, restores the position, and stops on a signal.

    A state is saved where nothing is half done: after the optimizer step of a batch that is not the epoch's last, or
    when validation, schedule, history and the decision to stop are all behind. Lightning's own loop state is left
    out of the file: a resumed epoch is a shorter epoch whose loader starts at the saved batch.

    Args:
        fingerprint: plain values that must be equal for a run to go on; stored in each file.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        save_rule: SaveRule,
        stop_rule: StopRule,
        monitor: str,
        fingerprint: dict[str, Any],
    ) -> None:
        self.store = store
        self.save_rule = save_rule
        self.stop_rule = stop_rule
        self.monitor = monitor
        self.fingerprint = fingerprint
        self.signum: int | None = None
        self._saved_step, self._saved_at = 0, time.monotonic()
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Classifier)
        pl_module.epoch_listeners.append(lambda row: self._decide(trainer, pl_module))
        # Lightning sets its own after this hook, and takes them back before teardown.
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        self._saved_step, self._saved_at = pl_module.progress.step, time.monotonic()
        self._started, self._seconds_before = time.monotonic(), pl_module.progress.seconds
        self._catch_signals()

    def _catch_signals(self) -> None:
        """Turn the first SIGTERM or SIGINT into a save at the next boundary; the second one acts at once."""
        # Python lets the main thread alone set handlers
        if threading.current_thread() is not threading.main_thread():
            return

        def catch(signum: int, _frame: FrameType | None) -> None:
            self.signum = signum
            signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.default_int_handler)

        for number in self._handlers:
            signal.signal(number, catch)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        self._handlers = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Classifier)
        progress = pl_module.progress
        # the epoch's last batch is saved after its validation, and within a window gradients are half summed
        if progress.batch == pl_module.epoch_batches or progress.batch % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1 and progress.step % AGREE_STEPS:
            return
        # collectives: every rank has to ask in this order, and asks the third only where all do
        signum = self._agree(trainer, self.signum is not None)
        out_of_time = self._agree(trainer, self._is_out_of_time(pl_module))
        due = self.save_rule.due(progress.step - self._saved_step, time.monotonic() - self._saved_at)
        if signum or out_of_time or self._agree(trainer, due):
            self._save(trainer, pl_module)
        if signum:
            raise StopTraining(self.signum or signal.SIGTERM)
        if out_of_time:
            raise StopTraining(None)

    @staticmethod
    def _agree(trainer: L.Trainer, flag: bool) -> bool:
        """Tell whether the flag is up on any rank."""
        return trainer.strategy.reduce_boolean_decision(flag, all=False) if trainer.world_size > 1 else flag

    def _is_out_of_time(self, module: Classifier) -> bool:
        """Tell whether the time is up; the first epoch is always ended, so that there is something to export."""
        module.progress.seconds = self._seconds_before + time.monotonic() - self._started
        hours = self.stop_rule.max_hours
        return hours is not None and bool(module.progress.history) and module.progress.seconds >= hours * 3600

    def _decide(self, trainer: L.Trainer, module: Classifier) -> None:
        # for the seconds that it takes note of
        self._is_out_of_time(module)
        if self._agree(trainer, self.stop_rule.reason(module.progress.history, module.progress.seconds) is not None):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning runs this hook of a Checkpoint after the module's, so the epoch is closed.
        assert isinstance(pl_module, Classifier)
        history = pl_module.progress.history
        if trainer.should_stop and self.stop_rule.reason(history, pl_module.progress.seconds) is None:
            pl_module.progress.stopped = "stopped by a callback of callbacks.extra"
        # first of all: the best one is a second name of this file
        self._save(trainer, pl_module)
        if trainer.is_global_zero and selected_row(history, self.monitor) is history[-1]:
            self.store.mark_best(pl_module.progress.step)
        if self._agree(trainer, self.signum is not None):
            raise StopTraining(self.signum or signal.SIGTERM)

    def _save(self, trainer: L.Trainer, module: Classifier) -> None:
        module.check_before_save()
        step = module.progress.step
        # the optimizer's state too, which weights_only would leave out
        trainer.save_checkpoint(self.store.path("last", step), weights_only=False)
        if trainer.is_global_zero:
            self.store.prune()
        self._saved_step, self._saved_at = step, time.monotonic()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        del checkpoint["loops"]
        checkpoint["fingerprint"] = self.fingerprint
        check_states(checkpoint.get("callbacks", {}))

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let the Trainer begin at the saved epoch and the loader at the saved batch."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, TableDataModule)
        progress = checkpoint["progress"]
        datamodule.start_batch = progress["batch"]
        counters = dict.fromkeys(("ready", "started", "processed", "completed"), progress["epoch"])
        trainer.fit_loop.epoch_progress.load_state_dict({"total": counters, "current": counters})
        # Steps that other callbacks and their loggers count on: none begins at 0 again.
        batches = trainer.fit_loop.epoch_loop
        batches._batches_that_stepped = progress["step"]
        batches.automatic_optimization.optim_progress.optimizer.step.total.completed = progress["step"]
        if trainer.is_global_zero and progress["history"]:
            # A kill may have come between the save of the best epoch and its second name.
            self.store.mark_best(int(selected_row(progress["history"], self.monitor)["step"]))
