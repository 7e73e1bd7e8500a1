"""Builds model, loss, optimizer, data and checkpointer from the settings and what was fitted on the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from tabstep.artifact.load import Architecture
from tabstep.config.key_types import plugins
from tabstep.config.settings import LossSettings, Settings
from tabstep.errors import UserError
from tabstep.models import check_options
from tabstep.models.linear import LinearModel
from tabstep.registry import CLASSIFIERS, LOSSES, PluginSettings
from tabstep.run.build_scores import build_scores, check_monitors
from tabstep.run.build_trainer import build_trainer, keep_history
from tabstep.run.linear_start import linear_start
from tabstep.run.prepared import Prepared
from tabstep.run.sizes import (
    batch_size_of,
    build_architecture,
    model_options,
    named_options,
    optimizer_options,
    patience_of,
    window_of,
)
from tabstep.run_files import HISTORY
from tabstep.system.devices import Machine
from tabstep.system.ranks import Ranks
from tabstep.training.callbacks.when_to_save import Checkpointer, SaveRule
from tabstep.training.checkpoint_store import CheckpointStore
from tabstep.training.classifier import Classifier
from tabstep.training.datamodule import Batching, TableDataModule
from tabstep.training.losses import ForeignLoss, Loss, balanced_weights, build_loss, weights_of_counts
from tabstep.training.optimizers import build_optimizer
from tabstep.training.progress import StepOptions, Target
from tabstep.training.schedulers import build_scheduler
from tabstep.training.shard_loader import ShardDataModule
from tabstep.training.stopping import StopRule

PART_ROWS = 2**20
"""Rows that are counted at a time."""


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """The built objects that ``training.train`` and the export after it take."""

    classifier: Classifier
    data: TableDataModule
    trainer: L.Trainer
    checkpointer: Checkpointer
    architecture: Architecture


def assemble(settings: Settings, prepared: Prepared, machine: Machine, ranks: Ranks) -> Assembly:
    """Build model, data, callbacks and Trainer; weights are drawn from ``settings.seed``."""
    output = Path(settings.paths.output_dir)
    architecture = build_architecture(settings, prepared.encoder, prepared.whole_rows)
    batching = Batching(
        batch_size=batch_size_of(settings, prepared),
        eval_batch_size=settings.data.eval_batch_size,
        shuffle_window=window_of(settings, prepared),
        seed=settings.seed,
    )
    sharded = prepared.sharded
    data = (
        TableDataModule(prepared.tables, batching)
        if sharded is None
        else ShardDataModule(prepared.tables, batching, sharded.rows)
    )
    # rounded up: Lightning steps at the end of an epoch with the batches that are left
    steps = -(-data.batches_per_epoch(ranks.world_size) // settings.trainer.accumulate_grad_batches)
    classifier = build_classifier(settings, prepared, machine, architecture, steps)
    checkpointer = build_checkpointer(settings, prepared, settings.paths.checkpoints)
    trainer = build_trainer(settings, machine, ranks, checkpointer)
    check_monitors(settings, prepared.encoder, trainer.callbacks)  # type: ignore[attr-defined]
    if ranks.rank == 0:
        keep_history(classifier, trainer, output / HISTORY if settings.logger.csv else None)
    return Assembly(
        classifier=classifier, data=data, trainer=trainer, checkpointer=checkpointer, architecture=architecture
    )


def check_components(settings: Settings) -> None:
    """Refuse wrong options before anything is read; those of another package are known to its signature alone."""
    check_options(settings.model.name, model_options(settings.model))
    for path, registry, part in plugins(settings):
        registry.check(part.name, part.options, path)


def build_task_loss(chosen: LossSettings | PluginSettings, prepared: Prepared) -> Loss:
    """Build the loss with the class weights that were asked for.

    Raises:
        UserError: the number of weights is not that of the classes.
    """
    encoder = prepared.encoder
    if isinstance(chosen, PluginSettings):
        return build_foreign_loss(chosen, prepared)
    weights = class_weights(chosen.class_weights, prepared)
    return build_loss(
        chosen.name,
        task=encoder.task,
        class_weights=weights,
        label_smoothing=chosen.label_smoothing,
        focal_gamma=chosen.focal_gamma,
    )


def build_foreign_loss(chosen: PluginSettings, prepared: Prepared) -> Loss:
    """Build a loss of torch or of another package, whose ``weight`` or ``pos_weight`` are the class weights.

    Raises:
        UserError: its constructor does not like its options, or it has no argument for the weights of this task.
    """
    task = prepared.encoder.task
    options = {key: value for key, value in chosen.options.items() if key != "class_weights"}
    weights = class_weights(chosen.options.get("class_weights"), prepared)
    if weights is not None and "class_weights" not in (own := LOSSES.arguments(LOSSES.load(chosen.name))):
        wanted = "weight" if task == "multiclass" else "pos_weight"
        if wanted not in own:
            raise UserError(f"loss.class_weights: {chosen.name} has no {wanted}, which those of a {task} task become")
        # One logit has one weight: that of the positives beside the negatives.
        options[wanted] = weights[1] / weights[0] if task == "binary" else weights
    elif weights is not None:
        options["class_weights"] = weights
    return ForeignLoss(LOSSES.make(PluginSettings(name=chosen.name, options=options)), task=task)


def class_weights(wanted: Any, prepared: Prepared) -> torch.Tensor | None:
    """Return a weight a class, or a label, as ``loss.class_weights`` asks for.

    Raises:
        UserError: it is neither ``balanced`` nor a number for each class.
    """
    encoder = prepared.encoder
    if wanted is None:
        return None
    if wanted == "balanced":
        if prepared.sharded is not None:
            counts = torch.from_numpy(prepared.sharded.label_counts)
            return weights_of_counts(counts, prepared.sharded.all_rows, task=encoder.task)
        parts = (torch.from_numpy(part.y) for part in prepared.tables["train"].parts(PART_ROWS))
        return balanced_weights(parts, task=encoder.task, num_outputs=encoder.num_outputs)
    if not isinstance(wanted, list) or not all(isinstance(each, int | float) for each in wanted):
        raise UserError(f"loss.class_weights: expected balanced, a list of numbers or null, got {wanted!r}")
    if len(wanted) != encoder.num_classes:
        raise UserError(
            f"loss.class_weights: {len(wanted)} weights for {encoder.num_classes} classes: "
            f"give one for each of {list(encoder.classes)}"
        )
    return torch.tensor(wanted, dtype=torch.float32)


def build_classifier(
    settings: Settings, prepared: Prepared, machine: Machine, architecture: Architecture, steps_per_epoch: int
) -> Classifier:
    """Build the LightningModule; ``steps_per_epoch`` counts optimizer steps."""
    encoder, max_epochs = prepared.encoder, settings.trainer.max_epochs
    optimizer, scheduler = optimizer_options(settings, prepared), named_options(settings.scheduler)
    # anew, right before the weights are drawn: whatever drew numbers before changes none of them
    torch.manual_seed(settings.seed)
    model = architecture.build()
    if isinstance(getattr(model, "linear", None), LinearModel):
        refuse_linear(prepared)
        model.begin_linear(linear_start(prepared, Path(settings.paths.cache_dir)))  # type: ignore[operator]
    chosen = settings.classifier
    own = chosen.options if isinstance(chosen, PluginSettings) else {}
    cls: type[Classifier] = CLASSIFIERS.load(chosen.name) if isinstance(chosen, PluginSettings) else Classifier
    return cls(
        model,
        build_task_loss(settings.loss, prepared),
        {
            split: build_scores(encoder, rows, settings.metrics.extra, calibrated=split == "val")
            for split, rows in (("train", prepared.train_rows), ("val", prepared.tables["val"].num_rows))
        },
        target=Target(task=encoder.task, num_outputs=encoder.num_outputs, input_names=encoder.input_names),
        options=StepOptions(
            seed=settings.seed,
            batch_size=batch_size_of(settings, prepared),
            max_epochs=max_epochs,
            gradient_clip_val=settings.trainer.gradient_clip_val,
            fail_above_grad_norm=settings.callbacks.fail_above_grad_norm,
            ema_decay=settings.callbacks.ema_decay,
            plateau_monitor=scheduler.get("monitor", "val_loss"),
        ),
        # a fused step unscales by itself what a GradScaler has to see first, and Lightning refuses to clip it
        make_optimizer=lambda model: build_optimizer(
            module=model, fused=False if machine.scales_loss else None, **optimizer
        ),
        make_schedule=lambda built: build_scheduler(
            optimizer=built, max_epochs=max_epochs, steps_per_epoch=steps_per_epoch, **scheduler
        ),
        **own,
    )


def refuse_linear(prepared: Prepared) -> None:
    """Refuse a linear model to begin as where its rows lie in shards."""
    if prepared.sharded is not None:
        raise UserError(
            "model.linear: a linear model to begin as is fitted on the whole of train, of which data.shards leaves "
            "each rank a part: set model.linear=false, or data.shards=null"
        )


def build_checkpointer(settings: Settings, prepared: Prepared, directory: Path) -> Checkpointer:
    """Build the callback that saves, restores and stops."""
    stopping, saving = settings.callbacks.early_stopping, settings.callbacks.checkpoint
    return Checkpointer(
        CheckpointStore(directory, keep=saving.keep),
        save_rule=SaveRule(every_n_steps=saving.every_n_steps, every_seconds=saving.every_seconds),
        stop_rule=StopRule(
            max_epochs=settings.trainer.max_epochs,
            max_hours=settings.trainer.max_time,
            monitor=stopping.monitor,
            patience=patience_of(settings, prepared),
            patience_steps=stopping.patience_steps,
            min_delta=stopping.min_delta,
        ),
        monitor=saving.monitor,
        fingerprint=fingerprint(settings, prepared),
    )


def fingerprint(settings: Settings, prepared: Prepared) -> dict[str, Any]:
    """Return what must not differ between a checkpoint and the run that goes on from it, by configuration key.

    The length of the run is part of it only where the schedule is stretched over it.
    """
    optimizer = asdict(settings.optimizer)
    if not isinstance(settings.optimizer, PluginSettings):
        optimizer = optimizer_options(settings, prepared)
    scheduler = asdict(settings.scheduler)
    if settings.scheduler.name in ("cosine", "one_cycle"):
        scheduler["max_epochs"] = settings.trainer.max_epochs
    # what was added later stands here only where it is set, so that earlier checkpoints still fit
    return {
        "data.train": prepared.train_fingerprint,
        **({"data.shards": settings.data.shards} if settings.data.shards is not None else {}),
        "data.val": prepared.sources["val"].fingerprint(),
        "data.encoder": prepared.encoder.fingerprint(),
        "schema": prepared.schema.to_dict(),
        "data.batch_size": batch_size_of(settings, prepared),
        "data.shuffle_window": window_of(settings, prepared),
        "model": asdict(settings.model),
        # a checkpoint of a version whose models knew of no flags has other weights where there are some
        **({"model.flags": list(prepared.encoder.flags)} if prepared.encoder.flags else {}),
        "loss": asdict(settings.loss),
        "optimizer": optimizer,
        "scheduler": scheduler,
        "trainer.accumulate_grad_batches": settings.trainer.accumulate_grad_batches,
        "trainer.gradient_clip_val": settings.trainer.gradient_clip_val,
        "trainer.limit_train_batches": settings.trainer.limit_train_batches,
        "trainer.limit_val_batches": settings.trainer.limit_val_batches,
        "callbacks.ema_decay": settings.callbacks.ema_decay,
        **(
            {"callbacks.extra": [asdict(part) for part in settings.callbacks.extra]} if settings.callbacks.extra else {}
        ),
        "callbacks.checkpoint.monitor": settings.callbacks.checkpoint.monitor,
        **({"metrics.extra": [asdict(part) for part in settings.metrics.extra]} if settings.metrics.extra else {}),
        **({"classifier": asdict(settings.classifier)} if isinstance(settings.classifier, PluginSettings) else {}),
        "seed": settings.seed,
    }
