"""The training step as a LightningModule: loss on logits, gradient clipping, metrics once an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from tabstep.errors import UserError
from tabstep.models.probabilities import pooled
from tabstep.training import guards
from tabstep.training.datamodule import Batch, TrainLoader
from tabstep.training.ema import WeightAverage
from tabstep.training.epoch_order import batch_seed
from tabstep.training.losses import Loss
from tabstep.training.optimizers import drop_smallest
from tabstep.training.progress import Progress, Row, StepOptions, Target
from tabstep.training.scores import EpochScores

_STEPS_TO_DROP = 64
"""Optimizer steps between two looks at the smallest numbers of its state: ``.9 ** 64`` leaves them above 1e-38."""
_SMALLEST = torch.finfo(torch.float32).tiny


class Classifier(L.LightningModule):
    """Trains a model of the form ``(x_num, x_cat) -> logits``.

    All that decides the next step is in the weights, the optimizer, the schedule and ``progress``: randomness is
    seeded anew at each batch from (seed, epoch, batch, rank), so nothing else has to be saved.

    Args:
        model: logits ``(B, num_outputs)``, or ``(B, k, num_outputs)`` while it trains an ensemble of ``k`` members.
        loss: losses and weights a row.
        scores: what is measured on ``train`` and ``val``.
        make_optimizer, make_schedule: called once the model lies on its device.

    A subclass (``classifier.name``) adds arguments by keyword and passes the others on; ``batch_losses`` is the step
    that it replaces. What it keeps between steps must be a buffer or a parameter, or stand in ``on_save_checkpoint``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        scores: dict[str, EpochScores],
        *,
        target: Target,
        options: StepOptions,
        make_optimizer: Callable[[nn.Module], Optimizer],
        make_schedule: Callable[[Optimizer], LRScheduler],
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.scores = scores  # not registered as a submodule: epoch scores are no part of the weights
        self.target = target
        self.options = options
        self.progress = Progress()
        self.last_loss = torch.tensor(math.nan)
        self.epoch_listeners: list[Callable[[Row], None]] = []
        self._make_optimizer, self._make_schedule = make_optimizer, make_schedule
        self._watch = guards.LossWatch()
        self._window: list[Tensor] = []
        self._restored: dict[str, Any] | None = None
        self._val_row: Row = {}
        self.ema = None if options.ema_decay is None else WeightAverage(model, decay=options.ema_decay)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets this name 40 times a step, around each hook, and torch looks each time whether it is a module.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def eval_model(self) -> nn.Module:
        """The model that is validated and exported: the average where there is one."""
        return self.model if self.ema is None else self.ema.module

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return cast(Tensor, self.model(x_num, x_cat))

    def configure_optimizers(self) -> Optimizer:
        optimizer = self._make_optimizer(self.model)
        self.schedule = self._make_schedule(optimizer)
        # by the optimizer: a GradScaler leaves its step out without saying so
        optimizer.register_step_post_hook(self._count_step)
        self._taken = 0
        return optimizer

    def _count_step(self, *_: Any) -> None:
        self._taken += 1

    def on_fit_start(self) -> None:
        for scores in self.scores.values():
            scores.to(self.device)

    def on_train_epoch_start(self) -> None:
        loader = self.trainer.train_dataloader
        assert isinstance(loader, TrainLoader)
        self.first_batch, self.epoch_batches = loader.start, loader.total
        self.epoch_batch = loader.start
        self.progress.epoch, self.progress.batch = self.current_epoch, loader.start
        self._rows, self._started = 0, time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.epoch_batch = self.first_batch + batch_idx
        self._seed_batch()
        with guards.memory_guard(self.options.batch_size):
            logits, losses, weights = self.batch_losses(batch)
            guards.check_losses(losses, weights, len(batch.y))
        weights = batch.weighted(weights)
        loss_sum: Tensor = (losses * weights).sum()
        total: Tensor = weights.sum()
        weight = total if batch.weight is None else total.clamp_min(_SMALLEST)  # all may be zero: no gradient then
        self.last_loss = loss_sum.detach() / weight
        self._watch.add(self.last_loss)
        self._check_finite(batch)
        self.scores["train"].add(pooled(logits.detach(), self.target.task), batch.y, loss_sum, weight, batch.weight)
        self._rows += len(batch.y)
        self.progress.batch = self.epoch_batch + 1
        # of one batch the weights are known: this is the mean already
        if not self._sums_window:
            return loss_sum / weight
        self._window.append(total.detach())
        # a constant in the place of the window's weights, which ``_window_factor`` puts right
        return loss_sum / self.options.batch_size

    def batch_losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a step goes by: logits for the scores of train, and a loss and a weight a row, ``(B,)`` each.

        A subclass replaces this to train otherwise: what stands around it keeps a run resumable and its sums exact over
        micro-batches and ranks. torch's generators are seeded for the batch, so that random numbers need no state.
        """
        logits = self(batch.x_num, batch.x_cat)
        if self.epoch_batch == self.first_batch:  # before the loss, whose own errors would hide the cause
            self._check_first(batch, logits)
        return logits, *self.loss(logits, batch.y)

    def _seed_batch(self) -> None:
        seed = batch_seed(self.options.seed, self.progress.epoch, self.epoch_batch, self.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    @property
    def _sums_window(self) -> bool:
        """Whether a step spans several micro-batches or ranks, whose weights are known only at its end."""
        return self.trainer.accumulate_grad_batches > 1 or self.trainer.world_size > 1

    def _check_first(self, batch: Batch, logits: Tensor) -> None:
        guards.check_devices(self.model, batch)
        guards.check_shapes(logits, batch.y, self.target.num_outputs)
        guards.check_logits(logits)
        guards.check_targets(batch.y, self.target.task, self.target.num_outputs)
        guards.check_batch_norm(self.model, len(batch.y))

    def _check_finite(self, batch: Batch | None = None, *, now: bool = False) -> None:
        """Stop at a loss that is not finite, with what made it."""
        bad = self._watch.first_bad(now=now)
        if bad is None:
            return
        late, value = bad
        cause = "" if batch is None else self._explain(batch) + "; "
        raise UserError(
            f"training: the loss is {value} at epoch {self.progress.epoch + 1}, batch {self.epoch_batch + 1 - late}: "
            f"{cause}lower optimizer.lr (now {self._lr:g}) or set trainer.gradient_clip_val"
        )

    def _explain(self, batch: Batch) -> str:
        return guards.explain_nonfinite(self.model, batch.x_num, batch.x_cat, self.target.input_names)

    @property
    def _lr(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Finish the mean over a window of micro-batches and ranks, then clip; the gradients are unscaled here."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self._sums_window:
            torch._foreach_mul_(gradients, self._window_factor())
        options = self.options
        if options.gradient_clip_val is None and options.fail_above_grad_norm is None:
            return
        # once for guard and clipping: Lightning's own clipping would take it a second time
        norm = torch.nn.utils.get_total_norm(gradients)
        # A look at the norm waits for the device, so on a GPU the guard rests on the loss instead; a GradScaler finds
        # infinite gradients by itself and leaves the step out.
        if self.device.type == "cpu" and self.trainer.precision != "16-mixed":
            where = f"epoch {self.progress.epoch + 1}, batch {self.epoch_batch + 1}"
            guards.check_gradients(self.model, norm, where, self._lr)
            guards.check_gradient_norm(float(norm), options.fail_above_grad_norm or math.inf, where, self._lr)
        if options.gradient_clip_val is not None:
            # 1e-6 as in torch's clip_grad_norm_
            torch._foreach_mul_(gradients, (options.gradient_clip_val / (norm + 1e-6)).clamp(max=1.0))

    def _window_factor(self) -> Tensor:
        """Return what turns the sum that was accumulated (and averaged over ranks) into the mean over the window."""
        weight = torch.stack(self._window).sum()
        self._window.clear()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(weight)
        # Lightning divides each loss by the micro-batches, and DDP gradients by the ranks: both are undone
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return torch.where(weight > 0, parts * self.options.batch_size / weight, 0.0)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        taken = self._taken
        super().optimizer_step(*args, **kwargs)
        self.progress.step += 1
        if self.progress.step % _STEPS_TO_DROP == 0:
            drop_smallest(self.trainer.optimizers[0])
        if self._taken == taken:  # the GradScaler found an infinity and left the step out
            self.progress.skipped += 1
            return
        if self.ema is not None:
            self.ema.update(self.model, self.progress.step - self.progress.skipped - 1)
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()

    def check_before_save(self) -> None:
        """Make sure that no state with a NaN loss or weight is ever written."""
        self._check_finite(now=True)
        for name, parameter in self.model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise UserError(
                    f"training: the weights {name} are not finite after step {self.progress.step}: "
                    f"lower optimizer.lr (now {self._lr:g}) or set trainer.gradient_clip_val"
                )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = pooled(self.eval_model(batch.x_num, batch.x_cat), self.target.task)
        losses, weights = self.loss(logits, batch.y)
        weights = batch.weighted(weights)
        self.scores["val"].add(logits, batch.y, (losses * weights).sum(), weights.sum(), batch.weight)

    def on_validation_epoch_start(self) -> None:
        self._train_seconds = time.perf_counter() - self._started

    def on_validation_epoch_end(self) -> None:
        self._val_row = {f"val_{key}": value for key, value in self.scores["val"].compute().items()}
        self._log(self._val_row)

    def _log(self, row: Row) -> None:
        """Show scores to Lightning's own callbacks; the loggers get whole rows, so that an epoch is one step of theirs.

        They are the same on all ranks, and the mean of them is what Lightning asks for.
        """
        self.log_dict(row, on_step=False, on_epoch=True, logger=False, sync_dist=self.trainer.world_size > 1)

    def on_train_epoch_end(self) -> None:
        """Close the epoch in the order that a checkpoint relies on: scores, history, schedule; the save comes last."""
        self._check_finite(now=True)
        row = self._epoch_row()
        self._log({key: value for key, value in row.items() if key.startswith("train_") or key in self._val_row})
        self.progress.history.append(row)
        # of a state that is saved from here on, the next batch is the first of the next epoch
        self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(row[self.options.plateau_monitor])
        for listener in self.epoch_listeners:
            listener(row)

    def _epoch_row(self) -> Row:
        train = {f"train_{key}": value for key, value in self.scores["train"].compute().items()}
        seconds = max(time.perf_counter() - self._started, 1e-9)
        epochs_left = (self.options.max_epochs or math.nan) - self.progress.epoch - 1
        # of the epoch that the seconds were for: a resumed one is shorter
        share = (self.epoch_batches - self.first_batch) / self.epoch_batches
        rows_per_s = self._rows * self.trainer.world_size / max(self._train_seconds, 1e-9)
        timing = {"rows_per_s": rows_per_s, "eta_s": epochs_left * seconds / share, "seconds": seconds}
        position = {"epoch": self.progress.epoch + 1, "step": self.progress.step}
        return {**position, **train, **self._val_row, "lr": self._lr, "skipped_steps": self.progress.skipped, **timing}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        scores: list[Any] = [self.scores["train"].snapshot()]
        if dist.is_available() and dist.is_initialized():
            scores = [None] * self.trainer.world_size
            dist.all_gather_object(scores, self.scores["train"].snapshot())
        checkpoint["progress"] = dict(vars(self.progress))
        checkpoint["train_scores"] = scores
        checkpoint["schedule"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.progress = Progress(**checkpoint["progress"])
        self._restored = checkpoint

    def on_train_start(self) -> None:
        """Restore what needs the optimizer, the device and the rank."""
        restored, self._restored = self._restored, None
        if restored is None:
            return
        self.schedule.load_state_dict(restored["schedule"])
        states, ranks = restored["train_scores"], self.trainer.world_size
        # on another number of ranks, the first goes on with the rows of all
        mine = [states[self.global_rank]] if len(states) == ranks else states if self.global_rank == 0 else []
        self.scores["train"].restore(mine, self.device)
