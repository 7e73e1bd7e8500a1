"""What ``auto`` means for a table: sizes of the network, a batch and a shuffle window, weight decay, patience."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from tabstep.artifact.load import Architecture
from tabstep.config.settings import Settings
from tabstep.encoding.encoded_table import row_bytes
from tabstep.encoding.encoder import Encoder
from tabstep.models.by_rows import fit_to_rows, rows_of_products
from tabstep.models.embeddings import FEW_BINS
from tabstep.registry import MODELS, ComponentSettings, PluginSettings
from tabstep.run.prepared import Prepared
from tabstep.training.datamodule import auto_batch_size, auto_window
from tabstep.training.optimizers import auto_hidden_weight_decay

_LEAST_PATIENCE: Final = 3
_MOST_PATIENCE: Final = 10
_STEPS_WITHOUT_PROGRESS: Final = 1000


def batch_size_of(settings: Settings, prepared: Prepared) -> int:
    """Return the rows of a training batch: those that are set, or those that fit the table."""
    size = settings.data.batch_size
    return auto_batch_size(prepared.whole_rows) if size == "auto" else size


def patience_of(settings: Settings, prepared: Prepared) -> int | None:
    """Return the epochs without progress after which a run ends: those that are set, or those that fit the table.

    A network that has not improved in a thousand steps seldom does; but scores of single epochs move by chance, so that
    three of them are waited for at least.
    """
    patience = settings.callbacks.early_stopping.patience
    if patience != "auto":
        return patience
    epochs = math.ceil(_STEPS_WITHOUT_PROGRESS / _steps_per_epoch(settings, prepared))
    return min(_MOST_PATIENCE, max(_LEAST_PATIENCE, epochs))


def _steps_per_epoch(settings: Settings, prepared: Prepared) -> int:
    """Return the optimizer steps of an epoch of all rows, whatever limits leave out."""
    batches = math.ceil(prepared.whole_rows / batch_size_of(settings, prepared))
    return math.ceil(batches / settings.trainer.accumulate_grad_batches)


def optimizer_options(settings: Settings, prepared: Prepared) -> dict[str, Any]:
    """Return the name of the optimizer and its options: no ``auto`` is left."""
    options = named_options(settings.optimizer)
    if options.get("hidden_weight_decay") == "auto":
        steps = _steps_per_epoch(settings, prepared)
        decay = auto_hidden_weight_decay(prepared.whole_rows, steps, options["hidden_lr"])
        options["hidden_weight_decay"] = decay
    return options


def rows_of_step(settings: Settings, prepared: Prepared) -> int:
    """Return the rows of the matrix products of a training step, of all ranks together."""
    architecture = build_architecture(settings, prepared.encoder, prepared.whole_rows)
    return rows_of_products(architecture.name, architecture.options, batch_size_of(settings, prepared))


def sizes_by_rows(settings: Settings, prepared: Prepared) -> Iterator[str]:
    """Say what each ``auto`` that depends on the rows of train has become."""
    rows = prepared.whole_rows
    asked = model_options(settings.model)
    fitted = build_architecture(settings, prepared.encoder, rows).options
    if asked.get("members") == "auto":
        members = fitted.get("members")
        what = "one perceptron, as model=mlp" if members is None else f"{members} members"
        yield f"model.members=auto: {what}, for {rows:,} rows of train"
    if asked.get("num_bins") == "auto" and fitted["num_bins"] != FEW_BINS:
        yield f"model.num_bins=auto: {fitted['num_bins']} bins a number, for {rows:,} rows of train"
    if settings.data.batch_size == "auto":
        yield f"data.batch_size=auto: {batch_size_of(settings, prepared)} rows a step, for {rows:,} rows of train"
    decay = optimizer_options(settings, prepared).get("hidden_weight_decay")
    if decay is not None and named_options(settings.optimizer)["hidden_weight_decay"] == "auto":
        yield f"optimizer.hidden_weight_decay=auto: {decay:.2g}, for {rows:,} rows of train"
    patience = patience_of(settings, prepared)
    if settings.callbacks.early_stopping.patience == "auto" and patience != _MOST_PATIENCE:
        yield f"callbacks.early_stopping.patience=auto: {patience} epochs, for {rows:,} rows of train"


def window_of(settings: Settings, prepared: Prepared) -> int:
    """Return the rows of a shuffle window: never by what this machine has free, so that a run can move to another."""
    rows = settings.data.shuffle_window
    return auto_window(row_bytes(prepared.encoder)) if rows == "auto" else rows


def model_options(model: ComponentSettings | PluginSettings) -> dict[str, Any]:
    """Return the options of the model, without its name."""
    return {key: value for key, value in named_options(model).items() if key != "name"}


def named_options(part: Any) -> dict[str, Any]:
    """Return the name of a component and its options beside it, wherever it comes from."""
    return {"name": part.name, **part.options} if isinstance(part, PluginSettings) else asdict(part)


def build_architecture(settings: Settings, encoder: Encoder, num_rows: int) -> Architecture:
    """Join the model's options with the widths that were fitted; ``num_rows`` are those of train."""
    name, options = settings.model.name, model_options(settings.model)
    # options of another package's model mean what that package says
    if name in MODELS.ours():
        name, options = fit_to_rows(name, options, num_rows)
    return Architecture(
        name=name,
        num_numeric=encoder.num_numeric,
        cardinalities=encoder.cardinalities,
        num_outputs=encoder.num_outputs,
        flags=encoder.flags,
        options=options,
    )
