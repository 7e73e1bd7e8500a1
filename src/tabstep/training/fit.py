"""Fits a classifier, anew or from a checkpoint, until a stop rule ends it; picks the best epoch's state."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException

from tabstep.errors import ProblemsError, RetryError, StoppedError, UserError
from tabstep.training.callbacks.when_to_save import Checkpointer, StopTraining
from tabstep.training.checkpoint_store import CheckpointStore, DamagedError, load_state
from tabstep.training.classifier import Classifier
from tabstep.training.datamodule import TableDataModule
from tabstep.training.stopping import selected_row

_PROGRESS: Final = {"epoch", "batch", "step", "history", "seconds"}


def find_checkpoint(resume: str, store: CheckpointStore) -> tuple[Path, dict[str, Any]] | None:
    """Return the file to go on from with its state, or None to start anew.

    Args:
        resume: ``auto`` takes the newest intact one if there is one, ``must`` insists on it, ``never`` ignores it;
            anything else is the path of a checkpoint, or of the directory of a run.

    Raises:
        UserError: there is nothing to resume from.
    """
    if resume == "never":
        return None
    if resume not in ("auto", "must"):
        return _open_checkpoint(Path(resume))
    found = store.newest(_check_state)
    if found is None and (resume == "must" or store.files("last")):
        what = "only damaged checkpoints" if store.files("last") else "no checkpoint"
        raise UserError(f"resume={resume}: {store.directory} holds {what}; resume=never starts anew")
    return found


def _open_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    if path.is_file():
        state = load_state(path)
        _check_state(path, state)
        return path, state
    found = CheckpointStore(path / "checkpoints").newest(_check_state) or CheckpointStore(path).newest(_check_state)
    if found is None:
        raise UserError(f"resume: no checkpoint at {path}: give auto, must, never, a .ckpt file or a run's directory")
    return found


def _check_state(path: Path, state: Mapping[str, Any]) -> None:
    """Raise ``DamagedError`` where an intact file does not hold the state of a run, but something else."""
    progress = state.get("progress")
    parts = [state.get("fingerprint"), progress, state.get("state_dict")]
    if not all(isinstance(part, Mapping) for part in parts) or not set(progress or ()) >= _PROGRESS:
        raise DamagedError(f"{path}: is not a checkpoint of a run of tabstep: it holds something else")


def check_fingerprint(saved: Mapping[str, Any], current: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with other data or another model than those that a checkpoint was made with.

    Raises:
        ProblemsError: one line for each value that differs.
    """
    differing = [key for key in {**saved, **current} if saved.get(key) != current.get(key)]
    if "data.train" in differing and "data.encoder" in differing:
        differing.remove("data.encoder")  # fitted on train
    if differing:
        raise ProblemsError(
            [f"resume: {_difference(key, saved.get(key), current.get(key), path)}" for key in differing]
            + ["resume: set that back, or start anew with resume=never or another paths.output_dir"]
        )


def _difference(key: str, saved: Any, current: Any, path: Path) -> str:
    if key.startswith("data.") and isinstance(saved, str):  # a digest tells a person nothing
        return f"{key} has changed since {path} was saved"
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        names = [name for name in {**saved, **current} if saved.get(name) != current.get(name)]
        was = ", ".join(f"{name}={saved.get(name)!r}" for name in names)
        now = ", ".join(f"{name}={current.get(name)!r}" for name in names)
        return f"{key} had {was} in {path}, now it has {now}"
    return f"{key} was {saved!r} in {path}, now it is {current!r}"


def train(
    trainer: L.Trainer,
    classifier: Classifier,
    data: TableDataModule,
    checkpointer: Checkpointer,
    resume_from: tuple[Path, dict[str, Any]] | None = None,
) -> str:
    """Train until a rule ends the run and return the reason.

    Args:
        resume_from: a checkpoint and its state; a state that is finished already is returned from at once, with
            ``classifier.progress`` restored.

    Raises:
        StoppedError: a signal came; the state is saved.
        ProblemsError: the checkpoint belongs to another run.
    """
    path = None
    if resume_from is not None:
        path, state = resume_from
        check_fingerprint(state["fingerprint"], checkpointer.fingerprint, path)
        progress = state["progress"]
        # the best epoch so far may never be beaten: it comes along from the directory that is gone on from
        if progress["history"] and trainer.is_global_zero:
            best = selected_row(progress["history"], checkpointer.monitor)
            checkpointer.store.adopt_best(path.parent, int(best["step"]))
        reason = over(checkpointer, progress)
        if reason is not None:
            # nothing is trained any more: its progress alone is wanted
            classifier.on_load_checkpoint(state)
            return reason
    try:
        # weights_only: a checkpoint that somebody else has made must not run code
        trainer.fit(classifier, datamodule=data, ckpt_path=path, weights_only=True)
    except StopTraining as stop:
        if stop.signum is not None:
            directory = checkpointer.store.directory
            raise StoppedError(f"{stop}: saved in {directory}; the same command goes on", stop.signum) from stop
    except MisconfigurationException as error:
        raise UserError(f"callbacks.extra: {' '.join(str(error).split())}") from error
    reason = over(checkpointer, vars(classifier.progress))
    assert reason is not None, "the Trainer ended before a rule did"
    return reason


def over(checkpointer: Checkpointer, progress: Mapping[str, Any]) -> str | None:
    """Return why a run that has come so far is over, or None."""
    rule = checkpointer.stop_rule.reason(progress["history"], progress["seconds"])
    return rule if rule is not None else progress.get("stopped")


def best_state(classifier: Classifier, store: CheckpointStore, monitor: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the history row and the saved state of the epoch to export.

    Where a full disk or a flipped bit has cost the best epoch, it is the best of the others, with a warning.

    Raises:
        RetryError: the epoch is younger than the last save: the same command runs it again.
        UserError: no epoch is left.
    """
    rows: list[Mapping[str, float]] = list(classifier.progress.history)
    problem = ""
    while rows:
        row = selected_row(rows, monitor)
        state, cause = _saved_state(store, int(row["step"]))
        if state is not None:
            if problem:
                warnings.warn(f"{problem}: epoch {row['epoch']:.0f} is exported instead", stacklevel=2)
            return dict(row), state
        # nothing was saved at this epoch or later: going on from what was will run it again
        if all(step < int(row["step"]) for step in store.steps("last")):
            raise RetryError(f"{cause}: the disk was full: free some space, then the same command goes on")
        problem = problem or f"{cause}, which has epoch {row['epoch']:.0f}, the best"
        rows.remove(row)
    raise UserError(f"{problem}, and no other epoch is left: resume=never trains anew")


def _saved_state(store: CheckpointStore, step: int) -> tuple[dict[str, Any] | None, str]:
    """Return what was saved at a step, or None and why."""
    cause = f"{store.path('best', step)}: is missing"
    for path in (store.path(kind, step) for kind in ("best", "last")):
        try:
            return load_state(path), ""
        except FileNotFoundError:
            continue
        except DamagedError as error:
            cause = str(error)
    return None, cause
