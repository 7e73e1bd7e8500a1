"""Callbacks of Lightning and of other packages, beside those that every run has."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lightning as L
import torch

from tabstep.errors import UserError
from tabstep.registry import CALLBACKS, PluginSettings


def build_callbacks(parts: Sequence[PluginSettings]) -> list[L.Callback]:
    """Build the callbacks of ``callbacks.extra``, and let what they log be seen.

    Raises:
        UserError: a constructor does not like its options, or two of them would share one place in a checkpoint.
    """
    made: list[L.Callback] = [
        CALLBACKS.make(part, path=f"{CALLBACKS.key}[{place}]") for place, part in enumerate(parts)
    ]
    for callback in made:
        # ``plain_messages`` lets only warnings of Lightning through
        logging.getLogger(type(callback).__module__).setLevel(logging.INFO)
    keys = [callback.state_key for callback in made if keeps_state(callback)]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise UserError(f"{CALLBACKS.key}: {key} stands twice, and a checkpoint has one place for its state")
    return made


def keeps_state(callback: L.Callback) -> bool:
    """Tell whether anything of a callback is in a checkpoint."""
    own = type(callback)
    return own.state_dict is not L.Callback.state_dict or own.on_save_checkpoint is not L.Callback.on_save_checkpoint


def without_state(callbacks: Iterable[L.Callback]) -> list[str]:
    """Return the names of callbacks of other packages that a resumed run begins anew.

    >>> from lightning.pytorch.callbacks import EarlyStopping, ModelSummary
    >>> without_state([EarlyStopping("val_loss"), ModelSummary()])
    ['ModelSummary']
    """
    return [
        type(callback).__name__
        for callback in callbacks
        if not (type(callback).__module__.startswith("tabstep.") or keeps_state(callback))
    ]


def step_without_state(classifier: L.LightningModule) -> bool:
    """Tell whether a step of another package has nothing of its own in a checkpoint.

    What ours keeps is that of the model, its moving average and the loss.
    """
    own = type(classifier)
    written = next(cls for cls in own.__mro__ if "on_save_checkpoint" in vars(cls))
    tensors = any(not name.startswith(("model.", "ema.", "loss.")) for name in classifier.state_dict())
    return not (own.__module__.startswith("tabstep.") or tensors or not written.__module__.startswith("tabstep."))


def check_states(states: Mapping[str, Any]) -> None:
    """Refuse states that could be written but not read again, since a checkpoint is read without running any code.

    Raises:
        UserError: a callback keeps more than tensors and plain containers.
    """
    for key, state in states.items():
        buffer = io.BytesIO()
        try:
            torch.save(state, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except (pickle.PickleError, AttributeError, TypeError) as error:
            raise UserError(f"callbacks.extra: {key}: its state holds more than tensors and plain values") from error
