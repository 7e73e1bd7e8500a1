"""Builds Lightning's Trainer, its loggers and what writes the history of each epoch."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.loggers import Logger

from tabstep.config.settings import LoggerSettings, Settings
from tabstep.errors import UserError
from tabstep.registry import LOGGERS
from tabstep.run_files import TENSORBOARD
from tabstep.system.devices import Machine
from tabstep.system.ranks import Ranks
from tabstep.training.callbacks.console import build_console
from tabstep.training.callbacks.foreign_callbacks import build_callbacks
from tabstep.training.callbacks.when_to_save import Checkpointer
from tabstep.training.classifier import Classifier
from tabstep.training.loggers import log_row, write_history


def build_trainer(settings: Settings, machine: Machine, ranks: Ranks, checkpointer: Checkpointer) -> L.Trainer:
    """Build the Trainer. Loaders are asked for anew each epoch: a new loader is a new order."""
    trainer, output = settings.trainer, Path(settings.paths.output_dir)
    return L.Trainer(
        accelerator=machine.accelerator,
        devices=ranks.local_world_size,
        num_nodes=ranks.num_nodes,
        strategy="ddp" if ranks.world_size > 1 else "auto",
        precision=machine.precision,
        # Lightning takes None for 1000 epochs, with a warning; -1 is no limit
        max_epochs=-1 if trainer.max_epochs is None else trainer.max_epochs,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        logger=build_loggers(settings.logger, output) or False,
        callbacks=[
            # bars and lines are drawn by ours, below: Lightning's own are off
            *build_console(settings.callbacks.progress, trainer.log_interval),
            *build_callbacks(settings.callbacks.extra),
            checkpointer,
        ],
        # what Lightning saves and loads by, and which process of how many this is
        plugins=[checkpointer.store, _environment(ranks)],
        deterministic=trainer.deterministic,
        detect_anomaly=trainer.detect_anomaly,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        # the data module gives each rank its rows
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=output,
    )


def _environment(ranks: Ranks) -> ClusterEnvironment:
    """Return where the ranks come from: torchrun, or nowhere.

    Lightning would take a job of Slurm, LSF or MPI that this one process runs in for several ranks of it.
    """
    if ranks.launched:
        return TorchElasticEnvironment()
    alone = LightningEnvironment()
    alone.set_global_rank(0)  # also for loggers, which go by SLURM_PROCID else
    return alone


def keep_history(classifier: Classifier, trainer: L.Trainer, file: Path | None) -> None:
    """Let each closed epoch reach the CSV file and the loggers.

    Listeners, not callbacks: the Trainer calls every callback six times a batch, whether it listens or not.
    """
    if file is not None:
        classifier.epoch_listeners.append(lambda _: write_history(file, classifier.progress.history))
    if loggers := list(trainer.loggers):
        classifier.epoch_listeners.append(lambda row: log_row(loggers, row))


def build_loggers(logger: LoggerSettings, output: Path) -> list[Logger]:
    """Build the Trainer's loggers; the CSV file is a listener, since it is rewritten from the history.

    Raises:
        UserError: TensorBoard is asked for and not installed, or a constructor does not like its options.
    """
    extra: list[Logger] = [
        LOGGERS.make(part, path=f"{LOGGERS.key}[{place}]") for place, part in enumerate(logger.extra)
    ]
    return [*_tensorboard(output), *extra] if logger.tensorboard else extra


def _tensorboard(output: Path) -> list[Logger]:
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return [TensorBoardLogger(save_dir=output, name=TENSORBOARD, version="")]
    except ModuleNotFoundError as error:
        raise UserError("logger.tensorboard: needs the package tensorboard: pip install tensorboard") from error
