"""A copy of the sweep in Optuna's own storage, for its dashboard; the ledger stays the truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from tabstep.errors import UserError
from tabstep.sweep import optuna_study as advice
from tabstep.sweep.distributions import Dimension
from tabstep.sweep.ledger import Header, Trial
from tabstep.sweep.optuna_study import optuna

JOURNAL: Final = "optuna.journal"
FAULTS: Final = (OSError, ImportError, ValueError, KeyError, RuntimeError, OptunaError, SQLAlchemyError)
"""What the kinds of storage raise when they cannot be opened or hold something else."""


class Mirror:
    """Keeps a study in step with a sweep.

    Args:
        storage: an URL; None is a journal file in ``directory``.

    Raises:
        UserError: the storage cannot be opened.
    """

    def __init__(
        self,
        directory: Path,
        storage: str | None,
        header: Header,
        dimensions: Mapping[str, Dimension],
        trials: Sequence[Trial],
    ) -> None:
        self.dimensions = dimensions
        with advice.quiet():
            self.study = _open(directory, storage, header)
            known = self.study.get_trials(deepcopy=False)
            self.ids = {trial.number: trial._trial_id for trial in known}
            self.open = {trial.number for trial in known if not trial.state.is_finished()}
        for trial in trials:
            self(trial)

    def __call__(self, trial: Trial) -> None:
        """Add a trial, or close one that has ended."""
        with advice.quiet():
            storage = self.study._storage
            if trial.number not in self.ids:
                running = advice.frozen(trial, self.dimensions, advice.TrialState.RUNNING)
                self.ids[trial.number] = storage.create_new_trial(self.study._study_id, template_trial=running)
                self.open.add(trial.number)
            if trial.finished and trial.number in self.open:
                self._close(trial)

    def _close(self, trial: Trial) -> None:
        storage, identity = self.study._storage, self.ids[trial.number]
        for step, value in enumerate(trial.curve, start=1):
            storage.set_trial_intermediate_value(identity, step, float("nan") if value is None else value)
        for key, text in {"error": trial.error, "directory": trial.directory}.items():
            storage.set_trial_user_attr(identity, key, text)
        result = advice.frozen(trial, self.dimensions)
        storage.set_trial_state_values(identity, result.state, result.values if result.state.name != "FAIL" else None)
        self.open.discard(trial.number)


def _open(directory: Path, storage: str | None, header: Header) -> optuna.Study:
    file = directory / JOURNAL
    if storage is None:
        _repair(file)
    try:
        return _study(_backend(file, storage), header)
    except FAULTS as error:
        if isinstance(error, UserError):
            raise
        if storage is not None:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"hydra.sweeper.storage: cannot be opened: {reason}") from error
    # the ledger is the truth, from which a journal that cannot be read is made anew
    os.replace(file, file.with_suffix(".damaged"))
    return _study(_backend(file, None), header)


def _study(storage: optuna.storages.BaseStorage, header: Header) -> optuna.Study:
    return optuna.create_study(
        storage=storage, study_name=header.study, directions=list(header.directions), load_if_exists=True
    )


def _backend(file: Path, storage: str | None) -> optuna.storages.BaseStorage:
    from optuna.storages import JournalStorage, RDBStorage, journal

    if storage is None:
        return JournalStorage(journal.JournalFileBackend(str(file)))
    if "://" not in storage:
        raise UserError(f"hydra.sweeper.storage: expected an URL such as sqlite:///sweeps.db, got {storage!r}")
    if storage.startswith("redis"):
        return JournalStorage(journal.JournalRedisBackend(storage))
    return RDBStorage(storage)


def _repair(file: Path) -> None:
    """Undo what a kill in the middle of a write leaves: half a line, and Optuna's lock."""
    for name in (f"{file}.lock", *map(str, file.parent.glob(f"{file.name}.lock*.rename"))):
        Path(name).unlink(missing_ok=True)
    if not file.is_file():
        return
    with open(file, "r+b") as journal:
        data = journal.read()
        if not data.endswith(b"\n"):
            journal.truncate(data.rfind(b"\n") + 1)
