"""Keys of the group ``paths``: the directories that a run writes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tabstep.option_types import Doc
from tabstep.run_files import CHECKPOINTS, MODEL


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """Directories that a run writes to."""

    output_dir: Annotated[str, Doc("report, model, predictions, checkpoints and logs of a run")]
    checkpoint_dir: Annotated[str | None, Doc("checkpoints of a run; null is checkpoints/ in output_dir")] = None
    model_dir: Annotated[str | None, Doc("model of a run; null is model/ in output_dir")] = None
    cache_dir: Annotated[str, Doc("encoded tables, shared by runs")]

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return Path(self.checkpoint_dir or f"{self.output_dir}/{CHECKPOINTS}")

    @property
    def model(self) -> Path:
        """Directory of the model."""
        return Path(self.model_dir or f"{self.output_dir}/{MODEL}")
