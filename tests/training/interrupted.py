"""A run that is stopped after its second epoch, for tests of what goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import pytest

from tabstep.training.callbacks.when_to_save import Checkpointer, StopTraining
from tabstep.training.classifier import Classifier


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop the run within, as a signal does, once its second epoch is saved."""
    save = Checkpointer._save

    def die(self: Checkpointer, trainer: L.Trainer, module: Classifier) -> None:
        save(self, trainer, module)
        if module.progress.epoch == 2:
            raise StopTraining(15)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "_save", die)
        with pytest.raises(RuntimeError, match="the same command goes on"):
            yield
