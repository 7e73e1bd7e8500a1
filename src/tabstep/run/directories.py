"""The directories that a run writes to: held by one process, checked in the first second, emptied to begin anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tabstep.artifact.save import check_place
from tabstep.config.settings import PathSettings
from tabstep.run.prepared import Show
from tabstep.run_files import (
    ANALYSIS,
    CHECKPOINTS,
    DONE,
    FOLDS,
    HISTORY,
    MODEL,
    PAGE,
    PREDICTIONS,
    REPORT,
    TENSORBOARD,
    WANDB,
)
from tabstep.system.atomic_write import check_writable
from tabstep.system.locks import LOCK, exclusive

_OUTPUTS = (PREDICTIONS, TENSORBOARD, HISTORY, REPORT, ANALYSIS, PAGE, FOLDS, DONE, WANDB)


@contextmanager
def locked(paths: PathSettings) -> Iterator[None]:
    with exclusive(Path(paths.output_dir)):
        if paths.checkpoint_dir is None:
            yield
            return
        check_writable(paths.checkpoints, "paths.checkpoint_dir")
        # two runs with directories of their own may be given one for their checkpoints
        with exclusive(paths.checkpoints, "paths.checkpoint_dir"):
            yield


def check_places(paths: PathSettings) -> None:
    """Find in the first second, not after the training, what cannot be written."""
    check_writable(Path(paths.output_dir), "paths.output_dir")
    if paths.model_dir is not None or not (Path(paths.output_dir) / DONE).exists():  # of a finished run it is our own
        check_place(paths.model, "paths.model_dir")
    check_writable(paths.model.parent, "paths.model_dir")


def set_aside(paths: PathSettings, show: Show) -> None:
    """Move what an earlier run left into ``previous-<n>``: starting anew must not destroy it."""
    output = Path(paths.output_dir)
    places = {CHECKPOINTS: paths.checkpoints, MODEL: paths.model} | {name: output / name for name in _OUTPUTS}
    old = {name: _content(path) for name, path in places.items() if _content(path)}
    if not old:
        return
    number = 1
    while (output / f"previous-{number}").exists():
        number += 1
    target = output / f"previous-{number}"
    target.mkdir()
    for name, content in old.items():
        directory = target / name if places[name].is_dir() else target
        directory.mkdir(exist_ok=True)
        for path in content:  # one by one: a container's mounted directory cannot be moved itself
            shutil.move(path, directory / path.name)
    show(f"resume=never: the earlier run in {output} was moved to {target}")


def _content(path: Path) -> list[Path]:
    """Return a file itself, or what is in a directory besides the lock of this run."""
    if not path.is_dir():
        return [path] if path.exists() else []
    return [entry for entry in path.iterdir() if entry.name != LOCK]
