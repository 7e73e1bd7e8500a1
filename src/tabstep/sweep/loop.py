"""The scheduling loop of a sweep: start trials, record their results, until nothing is left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from tabstep.errors import UserError
from tabstep.run_files import REPORT
from tabstep.sweep.compose_trials import Composer, settings_of
from tabstep.sweep.ledger import Ledger, State, Trial, finite, read_json
from tabstep.sweep.options import Options
from tabstep.sweep.runner_interface import Job, Runner, TrialResult
from tabstep.sweep.samplers import Proposer
from tabstep.sweep.space import Space
from tabstep.sweep.trial import TrialLink, trial_state, with_progress
from tabstep.system.atomic_write import write_durably

DETAILS = "error.txt"
MAX_LOST = 3
"""Times that a trial is started anew in one call after its process was killed."""
LOOK_SECONDS = 1.0


class Board(Protocol):
    """What is told how the sweep is going on."""

    def started(self, trial: Trial) -> None:
        """Tell that a trial runs."""

    def ended(self, trial: Trial) -> None:
        """Tell that a trial has its result."""

    def note(self, text: str) -> None:
        """Tell anything else."""

    def refresh(self) -> None:
        """Look again at the trials that run."""


@dataclass
class Loop:
    """Runs the trials of a sweep.

    Args:
        window: trial ``k`` rests on the results of the trials up to ``k - window``, whichever have ended by then: so
            a sweep does not depend on how fast its trials are.
        mirror: told of each trial that is new or changed.
    """

    ledger: Ledger
    space: Space
    options: Options
    proposer: Proposer
    composer: Composer
    runner: Runner
    window: int
    board: Board
    mirror: Callable[[Trial], None]
    running: dict[int, float] = field(default_factory=dict)  # number: when it was started
    lost: dict[int, int] = field(default_factory=dict)
    ends: float | None = None
    _jobs: dict[int, Job] = field(default_factory=dict)

    def run(self) -> None:
        """Run until all trials have ended, the time is over, or too many have failed.

        Raises:
            StoppedError: a signal came; the same command goes on.
            UserError: too many trials failed.
        """
        self.ends = None if self.options.timeout is None else time.monotonic() + self.options.timeout
        waiting = [trial.number for trial in self.ledger.trials if not trial.finished or self._is_retried(trial)]
        try:
            while self._start(waiting) or self.running:
                for outcome in self.runner.wait(LOOK_SECONDS):
                    if not self._record(outcome):
                        # before the others: the values of later trials may wait for its result
                        waiting.insert(0, outcome.number)
                self.board.refresh()
        finally:
            self.runner.stop()
        self._check_failures()

    def _is_retried(self, trial: Trial) -> bool:
        return self.options.retry_failed and trial.state == "failed"

    def _start(self, waiting: list[int]) -> bool:
        """Fill the free slots, with interrupted trials first; tell whether one was started."""
        begun = len(self.running)
        while len(self.running) < self.runner.slots and not self._is_over():
            if waiting:
                trial = self.ledger.trials[waiting.pop(0)]
            elif (new := self._new()) is not None:
                trial = new
            else:
                break
            self._launch(trial)
            # kept from naming its directory to its launch, and no longer
            self._jobs.clear()
        return len(self.running) > begun

    def _is_over(self) -> bool:
        if self.ends is not None and time.monotonic() > self.ends:
            return True
        limit = self.options.max_failures
        return limit is not None and self._failures() > limit

    def _failures(self) -> int:
        return sum(trial.state == "failed" for trial in self.ledger.trials)

    def _new(self) -> Trial | None:
        """Return the next trial, or None while it has to wait for earlier ones, or where there is none."""
        number, trials = len(self.ledger.trials), self.ledger.trials
        learns = self.options.searches or self.options.pruner != "none"
        sees = max(0, number - self.window + 1) if learns else 0
        if number >= self.proposer.total or not all(trial.finished for trial in trials[:sees]):
            return None
        proposal = self.proposer.propose(number, trials, sees)
        trial = Trial(
            number=number,
            state="running",
            params=proposal.params,
            overrides=self.space.overrides(proposal.params),
            directory=str(number),
            sees=sees,
            memory=proposal.memory,
        )
        with suppress(UserError):  # said when it is launched
            directory = os.path.relpath(self._job(trial).directory, self.ledger.directory)
            trial = replace(trial, directory=directory)
        self._save(trial)
        return trial

    def _launch(self, trial: Trial) -> None:
        directory = self.ledger.path(trial)
        try:
            job = self._job(trial)
        except UserError as error:
            # a trial that cannot be composed has failed, and the sweep goes on
            self._close(replace(trial, state="failed", error=str(error)))
            return
        directory.mkdir(parents=True, exist_ok=True)
        TrialLink(
            sweep=os.path.relpath(self.ledger.directory, directory),
            number=trial.number,
            sees=trial.sees,
            pruner=self.options.pruner,
            objective=self.options.objectives[0],
            direction=self.options.directions[0],
        ).write(directory)
        trial = replace(trial, state="running", error="", attempts=trial.attempts + 1)
        self._save(trial)
        self.running[trial.number] = time.monotonic()
        self.board.started(trial)
        self.runner.start(job)

    def _job(self, trial: Trial) -> Job:
        """Compose a trial and check it, once while it is being started."""
        if trial.number not in self._jobs:
            job = self.composer.compose(trial.overrides, trial.number)
            settings_of(job)
            self._jobs[trial.number] = job
        return self._jobs[trial.number]

    def _record(self, outcome: TrialResult) -> bool:
        """Keep how a trial ended; False when it has to be started again."""
        waited = time.monotonic() - self.running.pop(outcome.number)
        trial = self.ledger.trials[outcome.number]
        directory = self.ledger.path(trial)
        trial = replace(
            trial,
            seconds=trial.seconds + (waited if outcome.seconds is None else outcome.seconds),
            usd=trial.usd if outcome.usd is None else (trial.usd or 0.0) + outcome.usd,
            place=outcome.place,
            **with_progress(trial, directory),
        )
        # it stays ``running``: the same command goes on with it
        if outcome.stopped is not None:
            self._save(trial)
            raise outcome.stopped
        if outcome.lost and self._again(trial, outcome):
            return False
        if outcome.details:
            write_durably(directory / DETAILS, outcome.details.encode())
        self._close(finished(trial, directory, outcome, self.options.objectives))
        return True

    def _again(self, trial: Trial, outcome: TrialResult) -> bool:
        times = self.lost[trial.number] = self.lost.get(trial.number, 0) + 1
        if times >= MAX_LOST:
            return False
        self._save(trial)
        self.board.note(f"trial {trial.number}: {outcome.error}: starting it again")
        return True

    def _close(self, trial: Trial) -> None:
        self._save(trial)
        self.board.ended(trial)

    def _save(self, trial: Trial) -> None:
        self.ledger.save(trial)
        self.mirror(trial)

    def _check_failures(self) -> None:
        limit, failures = self.options.max_failures, self._failures()
        if limit is not None and failures > limit:
            last = next(trial for trial in reversed(self.ledger.trials) if trial.state == "failed")
            raise UserError(
                f"hydra.sweeper.max_failures: {failures} trials failed, {limit} are tolerated; trial {last.number}: "
                f"{last.error}"
            )


def finished(trial: Trial, directory: Path, outcome: TrialResult, objectives: tuple[str, ...]) -> Trial:
    """Return a trial with its result: the numbers of its report, or why there are none."""
    if outcome.error is not None:
        return replace(trial, state="failed", error=outcome.error)
    report = read_json(directory / REPORT)
    scores = {
        key: value if isinstance(value, int) else finite(value) for key, value in report.items() if is_number(value)
    }
    values = [finite(scores.get(name)) for name in objectives]
    if not report:  # a task that writes none
        values = [finite(outcome.value)]
    epochs = report.get("epochs", trial.epochs)
    trial = replace(trial, scores=scores, epochs=epochs)
    missing = [name for name, value in zip(objectives, values, strict=False) if value is None]
    if missing or len(values) < len(objectives):
        return replace(trial, state="failed", error=f"{', '.join(missing or objectives)} is not a number")
    return replace(trial, state=cast(State, trial_state(report)), values=cast(list[float], values))


def is_number(value: Any) -> bool:
    """Tell whether a value of a report is a score: a number, or null in the place of one."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
