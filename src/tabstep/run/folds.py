"""A cross-validation as one run: each fold is a run of its own, one after another, and then their results are joined.

A fold's run is what ``data.fold`` alone would make, below ``folds/``: it resumes by its own checkpoints, and where it
is complete it is not trained again. The rest hangs on what these runs left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tabstep.analysis.run_report import unharmed, write_page
from tabstep.artifact.save import save_ensemble, write_json
from tabstep.baselines.trees import check_installed
from tabstep.config.settings import PathSettings, Settings
from tabstep.errors import UserError
from tabstep.run.build import check_components
from tabstep.run.directories import check_places, locked, set_aside
from tabstep.run.done_file import finished_report, mark_finished
from tabstep.run.export import Report
from tabstep.run.fold_report import joined_report, show_folds
from tabstep.run.fold_results import Fold, Joined
from tabstep.run.fold_weights import fold_weights
from tabstep.run.foreign_reader import read_once
from tabstep.run.prepare import Opened, cut_of, open_splits
from tabstep.run.prepared import Show
from tabstep.run.showing import only_new, shower
from tabstep.run.tracked_folds import named_fold, tracked_folds
from tabstep.run_files import DONE, FOLDS, MODEL, PAGE, REPORT
from tabstep.schema import Split
from tabstep.sweep.trial import is_trial
from tabstep.system.atomic_write import file_digest
from tabstep.system.exits import writing
from tabstep.system.plain_messages import plain_messages
from tabstep.system.ranks import Ranks
from tabstep.tables.folds import assign_folds

RunOne = Callable[[Settings, dict[str, Any], set[str]], float]


def run_folds(settings: Settings, config: dict[str, Any], ranks: Ranks, shown: set[str], run_one: RunOne) -> float:
    """Run every fold that is not complete, join what they left, and return the objective's mean over the folds.

    Args:
        run_one: runs one fold, as ``tabstep.run.run``.

    Raises:
        UserError: the input or the configuration is wrong, or several processes were launched for one fold.
        StoppedError: a signal came; the state is saved.
    """
    if ranks.world_size > 1:
        raise UserError(
            "data.folds: one process trains fold after fold, and here are several: start it without torchrun, and "
            "trainer.devices gives each fold its GPUs"
        )
    with plain_messages(), locked(settings.paths):
        return _run_locked(settings, config, shown, run_one)


def _run_locked(settings: Settings, config: dict[str, Any], shown: set[str], run_one: RunOne) -> float:
    started = time.monotonic()
    check_installed(settings.baselines or [])
    check_components(settings)
    show = shower(silent=settings.callbacks.progress == "none")
    show_new = only_new(show, shown)
    check_places(settings.paths)
    cache_dir = Path(settings.paths.cache_dir)
    # a reader of another package is called once for all folds
    settings = replace(settings, data=read_once(settings.data, cache_dir))
    opened = open_splits(settings.data, settings.schema, cache_dir=cache_dir, show=show_new, decision=settings.decision)
    numbers = _assigned(settings, opened, show)
    weights = fold_weights(opened, numbers, in_time=settings.data.split.time is not None)
    with writing("paths.output_dir: cannot be written"):
        _check_resume(settings, show)
        with tracked_folds(settings, config, show) as (related, keep):
            for fold in range(1, _folds(settings) + 1):
                own = named_fold(settings, fold_settings(related, fold), fold)
                run_one(own, _with_changes(config, own), shown)
            report = _finish(settings, config, opened, numbers, weights, started, show)
            _write_page(settings, show)
            keep(report)
    show_folds(report, settings.paths, show)
    value = report.get(settings.objective)
    return float("nan") if value is None else float(value)


def _folds(settings: Settings) -> int:
    assert settings.data.folds is not None
    return settings.data.folds


def _assigned(settings: Settings, opened: Opened, show: Show) -> np.ndarray:
    train, cut = opened.sources["train"], cut_of(settings.data, opened.schema, settings.seed)
    numbers = assign_folds(train, cut, _folds(settings), known=settings.schema.classes is not None)
    sizes = np.bincount(numbers)[1:]
    how = f"in the order of {cut.time!r}, train before val" if cut.time is not None else str(cut)
    each = f"{sizes.min():,}" if sizes.min() == sizes.max() else f"{sizes.min():,} to {sizes.max():,}"
    show(f"data.folds={_folds(settings)}: {train.num_rows:,} rows, {each} a fold, {how}")
    return numbers


def _check_resume(settings: Settings, show: Show) -> None:
    """Begin anew where that is asked for, and insist on something to go on from."""
    if settings.resume == "never":
        set_aside(settings.paths, show)
    places = [fold_settings(settings, fold).paths.checkpoints for fold in range(1, _folds(settings) + 1)]
    if settings.resume == "must" and not any(place.is_dir() for place in places):
        raise UserError(f"resume=must: {places[0]} holds no checkpoint; resume=never starts anew")


def fold_settings(settings: Settings, fold: int) -> Settings:
    """Return the settings of one fold's run: its own places, and its share of the time."""
    paths, trainer, report = settings.paths, settings.trainer, settings.report
    hours = None if trainer.max_time is None else trainer.max_time / _folds(settings)
    return replace(
        settings,
        data=replace(settings.data, fold=fold),
        paths=replace(
            paths,
            output_dir=str(Path(paths.output_dir) / FOLDS / str(fold)),
            checkpoint_dir=None if paths.checkpoint_dir is None else str(paths.checkpoints / FOLDS / str(fold)),
            model_dir=None,  # the folds have theirs beside their results: paths.model_dir is for the averaged one
        ),
        trainer=replace(trainer, max_time=hours),
        report=replace(report, page=report.page and report.trials),
        # never and must were settled for the whole: each fold goes on from what it has
        resume="auto",
    )


def _with_changes(config: Mapping[str, Any], own: Settings) -> dict[str, Any]:
    """Return the configuration that a fold keeps with its model."""
    paths = {"output_dir": own.paths.output_dir, "checkpoint_dir": own.paths.checkpoint_dir, "model_dir": None}
    return {
        **config,
        "data": {**config["data"], "fold": own.data.fold},
        "paths": {**config["paths"], **paths},
        "trainer": {**config["trainer"], "max_time": own.trainer.max_time},
        "report": {**config["report"], "page": own.report.page},
        "resume": own.resume,
    }


def _finish(
    settings: Settings,
    config: Mapping[str, Any],
    opened: Opened,
    numbers: np.ndarray,
    weights: Mapping[Split, np.ndarray],
    started: float,
    show: Show,
) -> Report:
    """Join the folds, unless that is done already and whole."""
    output = Path(settings.paths.output_dir)
    places = [output / FOLDS / str(fold) for fold in range(1, _folds(settings) + 1)]
    # that of a fold has the digests of all that it left: a fold that was made again makes the rest again
    done = [file_digest(place / DONE) for place in places]
    facts = {"folds": done, "decision": settings.decision, "objective": settings.objective}
    splits: list[Split] = ["val", "test"] if "test" in opened.sources else ["val"]
    report, why = finished_report(settings.paths, facts, splits)
    if report is not None:
        show(f"resume: this run is complete ({report['stop_reason']}); resume=never starts anew")
        return report
    if why:
        show(f"resume: {why}: its results are made again")
    (output / PAGE).unlink(missing_ok=True)  # it is of other models
    in_time = settings.data.split.time is not None
    folds = [_fold(number, place, numbers, in_time=in_time) for number, place in enumerate(places, start=1)]
    joined = Joined(folds, numbers, decision=settings.decision, extra=settings.metrics.extra, weights=weights)
    for split in splits:
        joined.write(split, output)
    report = joined_report(settings, joined, output)
    if opened.best_auroc is not None:
        report["best_reachable_test_auroc"] = opened.best_auroc
    save_ensemble(
        settings.paths.model,
        members={place / MODEL: fold.weight for place, fold in zip(places, folds, strict=True)},
        config=config,
        metrics=report,
        thresholds=joined.thresholds,
    )
    report |= {"stop_reason": f"all {len(folds)} folds", "seconds": round(time.monotonic() - started, 3)}
    write_json(output / REPORT, report)
    # last: after a kill before it, the results are made again from the folds, which are whole
    mark_finished(settings.paths, facts, splits)
    return report


def _fold(number: int, place: Path, numbers: np.ndarray, *, in_time: bool) -> Fold:
    """Read a fold's run. In time the models count by the rows that they have seen, else alike."""
    report = json.loads((place / REPORT).read_text(encoding="utf-8"))
    seen = int(np.count_nonzero(numbers < number if in_time else numbers != number))
    return Fold.read(number, place, report, train_rows=seen, weight=float(seen) if in_time else 1.0)


def _write_page(settings: Settings, show: Show) -> None:
    """Write the page where there is none."""
    output: PathSettings = settings.paths
    directory = Path(output.output_dir)
    if not settings.report.page or (directory / PAGE).exists() or (is_trial(directory) and not settings.report.trials):
        return
    with unharmed(show):
        write_page(directory, output.model)
