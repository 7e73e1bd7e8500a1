"""A finished run as an object: scores, history and model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabstep.analysis.stored_runs import read_run
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.errors import UserError
from tabstep.log_lines import number
from tabstep.schema import SPLITS

if TYPE_CHECKING:
    from tabstep.artifact.predictor import Predictor

_SHOWN = ("loss", "accuracy", "f1", "auroc", "average_precision", "log_loss")


@dataclass(frozen=True, kw_only=True, repr=False)
class Run:
    """What a finished run left behind; ``tabstep.train`` returns it, ``Run.read`` opens one of the command line.

    ``report`` holds the scores of the best epoch, such as ``val_auroc``, and ``history`` one row an epoch.
    ``config`` is the resolved configuration, ``model_directory`` what a service gets.
    """

    directory: Path
    model_directory: Path
    report: Mapping[str, Any]
    history: tuple[dict[str, float], ...]
    config: Mapping[str, Any]

    @classmethod
    def read(cls, directory: str | os.PathLike[str]) -> Run:
        """Open the directory of a finished run.

        Raises:
            UserError: it is none, or is not finished.
        """
        stored = read_run(directory)
        if not stored.report:
            raise UserError(f"{directory}: the run is not finished: the command that began it goes on with it")
        return cls(
            directory=stored.path,
            model_directory=stored.model,
            report=stored.report,
            history=stored.history,
            config=stored.config,
        )

    @cached_property
    def model(self) -> Predictor:
        """The trained model, loaded when it is first asked for: ``run.model.predict(table)``."""
        from tabstep.artifact.load import load

        return load(self.model_directory)

    @property
    def settings(self) -> Settings:
        """The configuration, typed."""
        return parse(self.config)

    def __repr__(self) -> str:
        """Show the scores of each split in a few lines."""
        splits = [split for split in SPLITS if f"{split}_accuracy" in self.report]
        rows = [
            ("", *_SHOWN),
            *((split, *map(self._score, [f"{split}_{name}" for name in _SHOWN])) for split in splits),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
        title = f"Run: best epoch {self.report.get('best_epoch')} of {self.report.get('epochs')}, {self.directory}"
        return "\n".join([title, *lines])

    def _score(self, key: str) -> str:
        value = self.report.get(key)
        return "" if value is None else number(value)
