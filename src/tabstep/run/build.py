"""Builds model, loss, optimizer, callbacks and Trainer from the settings and what was fitted on the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from tabstep.artifact.load import Architecture
from tabstep.config.fields import plugins
from tabstep.config.settings import Settings
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError, nearest
from tabstep.log_lines import CALIBRATED, SCORES
from tabstep.models import check_options
from tabstep.models.linear import LinearModel, has_linear
from tabstep.registry import CALLBACKS, CLASSIFIERS, LOGGERS, LOSSES, MODELS, PluginSettings
from tabstep.run.linear_start import linear_start
from tabstep.run.prepare import Prepared
from tabstep.run_files import HISTORY, TENSORBOARD
from tabstep.system.devices import Machine
from tabstep.system.ranks import Ranks
from tabstep.training.calibration import CalibratedLogLoss
from tabstep.training.callbacks.checkpointing import Checkpointer, SaveRule
from tabstep.training.callbacks.console import build_console
from tabstep.training.callbacks.extra import build_callbacks
from tabstep.training.checkpoint_files import CheckpointStore
from tabstep.training.classifier import Classifier, StepOptions, Target
from tabstep.training.datamodule import Batching, TableDataModule, auto_batch_size
from tabstep.training.extra_metrics import build_extra_metrics, score_names
from tabstep.training.loggers import log_row, write_history
from tabstep.training.losses import ForeignLoss, Loss, balanced_weights, build_loss, weights_of_counts
from tabstep.training.metrics import build_metrics
from tabstep.training.optimizers import build_optimizer
from tabstep.training.schedulers import build_scheduler
from tabstep.training.scores import EpochScores
from tabstep.training.shard_loader import ShardDataModule
from tabstep.training.stopping import StopRule

EXACT_ROWS = 10_000_000
"""Rows of a split up to which ranking metrics keep every probability; above, they count in bins."""
BINS = 16_384


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
    architecture = build_architecture(settings, prepared.encoder, prepared.train_rows)
    batching = Batching(
        batch_size=batch_size_of(settings, prepared),
        eval_batch_size=settings.data.eval_batch_size,
        shuffle_window=settings.data.shuffle_window,
        seed=settings.seed,
    )
    sharded = prepared.sharded
    data = (
        TableDataModule(prepared.tables, batching)
        if sharded is None
        else ShardDataModule(prepared.tables, batching, sharded.rows)
    )
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


def batch_size_of(settings: Settings, prepared: Prepared) -> int:
    """Return the rows of a training batch: those that are set, or those that fit the table."""
    size = settings.data.batch_size
    return auto_batch_size(prepared.train_rows) if size == "auto" else size


def check_components(settings: Settings) -> None:
    """Refuse wrong options before anything is read; those of another package are known to its signature alone."""
    check_options(settings.model.name, model_options(settings))
    for path, registry, part in plugins(settings):
        registry.check(part.name, part.options, path)


def model_options(settings: Settings) -> dict[str, Any]:
    """Return the options of the model, without its name."""
    return {key: value for key, value in named_options(settings.model).items() if key != "name"}


def named_options(part: Any) -> dict[str, Any]:
    """Return the name of a component and its options beside it, wherever it comes from."""
    return {"name": part.name, **part.options} if isinstance(part, PluginSettings) else asdict(part)


def build_architecture(settings: Settings, encoder: Encoder, num_rows: int) -> Architecture:
    """Join the model's options with the widths that were fitted; ``num_rows`` are those of train."""
    options = model_options(settings)
    if settings.model.name in MODELS.ours() and "linear" in options:
        options |= {"linear": has_linear(options["linear"], num_rows)}
    return Architecture(
        name=settings.model.name,
        num_numeric=encoder.num_numeric,
        cardinalities=encoder.cardinalities,
        num_outputs=encoder.num_outputs,
        flags=encoder.flags,
        options=options,
    )


def build_task_loss(settings: Settings, prepared: Prepared) -> Loss:
    """Build the loss with the class weights that were asked for.

    Raises:
        UserError: the number of weights is not that of the classes.
    """
    encoder, chosen = prepared.encoder, settings.loss
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
        y = torch.from_numpy(prepared.tables["train"].y)
        return balanced_weights(y, task=encoder.task, num_outputs=encoder.num_outputs)
    if not isinstance(wanted, list) or not all(isinstance(each, int | float) for each in wanted):
        raise UserError(f"loss.class_weights: expected balanced, a list of numbers or null, got {wanted!r}")
    if len(wanted) != encoder.num_classes:
        raise UserError(
            f"loss.class_weights: {len(wanted)} weights for {encoder.num_classes} classes: "
            f"give one for each of {list(encoder.classes)}"
        )
    return torch.tensor(wanted, dtype=torch.float32)


def build_scores(
    encoder: Encoder, num_rows: int, extra: Sequence[PluginSettings] = (), *, calibrated: bool = False
) -> EpochScores:
    """Build the metrics of one split: exact up to ``EXACT_ROWS`` rows.

    ``calibrated`` adds the log-loss that a temperature would leave, by which epochs are told apart.

    Raises:
        UserError: a metric of another package does not like its options or the task.
    """
    binned = num_rows > EXACT_ROWS
    metrics = build_metrics(encoder.task, encoder.num_outputs, thresholds=BINS if binned else None)
    metrics.add_metrics({**build_extra_metrics(extra, encoder.task, encoder.num_outputs, class_names(encoder))})
    if calibrated:
        metrics.add_metrics({"calibrated": CalibratedLogLoss(encoder.task, encoder.num_outputs)})
    return EpochScores(metrics, encoder.task, binned=binned)


def class_names(encoder: Encoder) -> list[str]:
    """Return what the scores of a class are called; a binary task has those of the positive class alone."""
    return [] if encoder.task == "binary" else [str(name) for name in encoder.classes]


def check_monitors(settings: Settings, encoder: Encoder, callbacks: Sequence[L.Callback]) -> None:
    """Refuse an objective, or what a callback watches, that is no column of the history.

    Raises:
        UserError: with the nearest name.
    """
    extra = settings.metrics.extra
    made = build_extra_metrics(extra, encoder.task, encoder.num_outputs, class_names(encoder))
    scores = (*SCORES, *score_names(made, class_names(encoder)))
    names = [*(f"{split}_{key}" for split in ("val", "train") for key in scores), f"val_{CALIBRATED}"]
    watched = {
        "objective": settings.objective,
        "callbacks.early_stopping.monitor": settings.callbacks.early_stopping.monitor,
        "callbacks.checkpoint.monitor": settings.callbacks.checkpoint.monitor,
    }
    # What a callback of somebody else's logs is not known here, and may be watched as well.
    if all(type(each).__module__.partition(".")[0] in ("lightning", "tabstep") for each in callbacks):
        watched |= {
            f"{CALLBACKS.key}: {type(each).__name__}.monitor": monitor
            for each in callbacks
            if isinstance(monitor := getattr(each, "monitor", None), str)
        }
    for place, name in watched.items():
        if name not in names:
            raise UserError(f"{place}: no score is called {name!r}: {nearest(name, names)}")


def build_classifier(
    settings: Settings, prepared: Prepared, machine: Machine, architecture: Architecture, steps_per_epoch: int
) -> Classifier:
    """Build the LightningModule; ``steps_per_epoch`` counts optimizer steps."""
    encoder, max_epochs = prepared.encoder, settings.trainer.max_epochs
    optimizer, scheduler = named_options(settings.optimizer), named_options(settings.scheduler)
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
        build_task_loss(settings, prepared),
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
            patience=stopping.patience,
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
    scheduler = asdict(settings.scheduler)
    if settings.scheduler.name in ("cosine", "one_cycle"):
        scheduler["max_epochs"] = settings.trainer.max_epochs
    return {
        "data.train": prepared.train_fingerprint,
        **({"data.shards": settings.data.shards} if settings.data.shards is not None else {}),
        "data.val": prepared.sources["val"].fingerprint(),
        "data.encoder": prepared.encoder.fingerprint(),
        "schema": prepared.schema.to_dict(),
        "data.batch_size": batch_size_of(settings, prepared),
        "data.shuffle_window": settings.data.shuffle_window,
        "model": asdict(settings.model),
        # a checkpoint of a version whose models knew of no flags has other weights where there are some
        **({"model.flags": list(prepared.encoder.flags)} if prepared.encoder.flags else {}),
        "loss": asdict(settings.loss),
        "optimizer": asdict(settings.optimizer),
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


def build_trainer(settings: Settings, machine: Machine, ranks: Ranks, checkpointer: Checkpointer) -> L.Trainer:
    """Build the Trainer. Loaders are asked for anew each epoch: a new loader is a new order."""
    trainer, output = settings.trainer, Path(settings.paths.output_dir)
    return L.Trainer(
        accelerator=machine.accelerator,
        devices=ranks.local_world_size,
        num_nodes=ranks.num_nodes,
        strategy="ddp" if ranks.world_size > 1 else "auto",
        precision=machine.precision,
        max_epochs=-1 if trainer.max_epochs is None else trainer.max_epochs,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        logger=build_loggers(settings, output) or False,
        callbacks=[
            *build_console(settings.callbacks.progress, trainer.log_interval),
            *build_callbacks(settings.callbacks.extra),
            checkpointer,
        ],
        plugins=[checkpointer.store],
        deterministic=trainer.deterministic,
        detect_anomaly=trainer.detect_anomaly,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=output,
    )


def keep_history(classifier: Classifier, trainer: L.Trainer, file: Path | None) -> None:
    """Let each closed epoch reach the CSV file and the loggers.

    Listeners, not callbacks: the Trainer calls every callback six times a batch, whether it listens or not.
    """
    if file is not None:
        classifier.epoch_listeners.append(lambda _: write_history(file, classifier.progress.history))
    if loggers := list(trainer.loggers):
        classifier.epoch_listeners.append(lambda row: log_row(loggers, row))


def build_loggers(settings: Settings, output: Path) -> list[Logger]:
    """Build the Trainer's loggers; the CSV file is a listener, since it is rewritten from the history.

    Raises:
        UserError: TensorBoard is asked for and not installed, or a constructor does not like its options.
    """
    extra: list[Logger] = [
        LOGGERS.make(part, path=f"{LOGGERS.key}[{place}]") for place, part in enumerate(settings.logger.extra)
    ]
    return [*_tensorboard(output), *extra] if settings.logger.tensorboard else extra


def _tensorboard(output: Path) -> list[Logger]:
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return [TensorBoardLogger(save_dir=output, name=TENSORBOARD, version="")]
    except ModuleNotFoundError as error:
        raise UserError("logger.tensorboard: needs the package tensorboard: pip install tensorboard") from error
