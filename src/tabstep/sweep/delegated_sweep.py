"""A sweep that an external service runs as a whole (a tuning job): the request, checked, and its best trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tabstep.config.settings import Settings
from tabstep.sweep.best import command_line, standalone, write_best
from tabstep.sweep.compose_trials import Composer
from tabstep.sweep.distributions import ends
from tabstep.sweep.ledger import Trial
from tabstep.sweep.options import Options
from tabstep.sweep.space import Space
from tabstep.sweep.summary import COMMAND
from tabstep.system.atomic_write import write_durably

ONE_JOBS = ("launch.tuner=", "launch.job_name=")


@dataclass(frozen=True, kw_only=True)
class Handover:
    """A sweep whose space is checked.

    ``samples`` are the settings of a few trials that stand for all.
    """

    space: Space
    options: Options
    samples: Sequence[Settings]
    composer: Composer

    @property
    def directory(self) -> Path:
        """The directory of the sweep."""
        return self.composer.sweep_dir

    def settings(self) -> Settings:
        """Return the settings of one of the trials, in the directory of the sweep."""
        one = self.samples[0]
        return replace(one, paths=replace(one.paths, output_dir=str(self.directory)))

    def shared(self) -> list[str]:
        """Return the overrides that all trials share, as one run has them."""
        tuned = {f"{key}={text}" for key, text in self.first().items()}
        return [text for text in standalone(self.space.overrides(self.first()), self.composer) if text not in tuned]

    def first(self) -> dict[str, str]:
        """Return a value of each dimension."""
        return {key: ends(dimension)[0] for key, dimension in self.space.dimensions.items()}

    def best(self, params: Mapping[str, str]) -> str:
        """Return the command that runs a trial again, and write it where a sweep has it, as an experiment too."""
        overrides = [text for text in self.space.overrides(params) if not text.startswith(ONE_JOBS)]
        trial = Trial(number=0, state="complete", params=dict(params), overrides=tuple(overrides), directory="")
        command = command_line(trial, self.composer)
        self.directory.mkdir(parents=True, exist_ok=True)
        write_best(trial, self.composer, self.directory)
        write_durably(self.directory / COMMAND, f"{command}\n".encode())
        return command
