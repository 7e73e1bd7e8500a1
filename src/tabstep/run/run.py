"""A whole run from its settings: prepare, train, export the best epoch, evaluate, report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tabstep.analysis.run_analysis import Limits
from tabstep.analysis.run_report import report_run
from tabstep.artifact import onnx_file
from tabstep.artifact.save import write_json
from tabstep.baselines.trees import check_installed
from tabstep.config.parse import to_dict
from tabstep.config.secrets import hidden
from tabstep.config.settings import Settings, TrainerSettings
from tabstep.decision_goal import check_decision
from tabstep.run.build import Assembly, assemble, check_components
from tabstep.run.directories import check_places, locked, set_aside
from tabstep.run.done_file import finished_report, mark_finished
from tabstep.run.export import Report, export, show_report
from tabstep.run.folds import run_folds
from tabstep.run.gather_files import gather_shards
from tabstep.run.prepare import prepare
from tabstep.run.prepare_shards import prepare_shards
from tabstep.run.prepared import Prepared, Show, limited
from tabstep.run.showing import nothing, only_new, shower
from tabstep.run.sizes import batch_size_of, rows_of_step, sizes_by_rows
from tabstep.run.tracked import attach_trackers, begin_tracking, keep_results, tracked
from tabstep.run_files import BF16, HISTORY, PAGE, RANKS, REPORT
from tabstep.schema import Split
from tabstep.sweep.trial import attach, is_trial
from tabstep.system.cache import cached_json
from tabstep.system.devices import Machine, bf16_gain, resolve_machine
from tabstep.system.exits import check_stopped, writing
from tabstep.system.plain_messages import plain_messages
from tabstep.system.ranks import Ranks, agree_on, current_ranks, run_ranks
from tabstep.tracking.tracker import Tracker
from tabstep.training.callbacks.foreign_callbacks import step_without_state, without_state
from tabstep.training.fit import find_checkpoint, over, train
from tabstep.training.loggers import is_history, log_settings, write_history
from tabstep.training.stopping import selected_row


def run(settings: Settings, config: dict[str, Any], shown: set[str] | None = None) -> float:
    """Run everything and return the objective's value at the exported epoch.

    Args:
        config: the composed configuration as plain containers, kept with the model.
        shown: what earlier runs of this process have told of their tables, which is not told again; it is added to.

    Raises:
        UserError: the input or the configuration is wrong.
        StoppedError: a signal came; the state is saved.
    """
    ranks = current_ranks()
    if settings.data.folds is not None and settings.data.fold is None:
        return run_folds(settings, config, ranks, set() if shown is None else shown, run)
    trainer = settings.trainer
    # no rows: the devices are asked for, and nothing is measured yet
    machine = resolve_machine(trainer.accelerator, trainer.devices, trainer.precision, rows=0)
    if machine.devices > 1 and not ranks.launched:
        return _run_on_devices(settings, machine.devices)
    # Hydra names a directory by the clock, on each rank below torchrun: that of rank 0 counts
    output = agree_on(ranks, "output_dir", settings.paths.output_dir)
    settings = replace(settings, paths=replace(settings.paths, output_dir=output), trainer=_shortened(settings.trainer))
    # one rank holds the directory for all of them
    with plain_messages(), locked(settings.paths) if ranks.rank == 0 else nullcontext():
        return _run_locked(settings, config, ranks, set() if shown is None else shown)


def _machine_for(settings: Settings, prepared: Prepared, ranks: Ranks) -> Machine:
    """Fit the precision to the machine by what was measured first: under load it would be something else each time.

    So ranks do not differ, nor does a run that goes on from what it would have been. It is chosen by the rows of all
    ranks together, so that their number decides as little as it can.
    """

    def gain() -> float:
        own = cached_json(settings.paths.checkpoints, BF16, bf16_gain) if ranks.rank == 0 else 0.0
        return float(agree_on(ranks, BF16, str(own)))

    trainer, rows = settings.trainer, rows_of_step(settings, prepared)
    return resolve_machine(trainer.accelerator, trainer.devices, trainer.precision, rows=rows, gain=gain)


def _run_on_devices(settings: Settings, devices: int) -> float:
    output = Path(settings.paths.output_dir)
    run_ranks(to_dict(settings), devices, output / RANKS)
    # the ranks were processes of their own: what they came to is in the file
    report: Report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    return _objective(report, settings.objective)


def _run_locked(settings: Settings, config: dict[str, Any], ranks: Ranks, shown: set[str]) -> float:
    started = time.monotonic()
    # needed at the end of the run alone, and said before any row is read
    check_installed(settings.baselines or [])
    if settings.export == "onnx":
        onnx_file.check_installed("export=onnx")
    check_components(settings)
    check_stopped()
    show = shower(silent=settings.callbacks.progress == "none") if ranks.rank == 0 else nothing
    show_new = only_new(show, shown)
    if ranks.rank == 0:
        check_places(settings.paths)
    nobody: AbstractContextManager[list[Tracker]] = nullcontext([])
    with tracked(settings) if ranks.rank == 0 else nobody as trackers:
        prepared = _prepared(settings, ranks, show_new)
        check_stopped()
        return _run_prepared(settings, config, ranks, prepared, trackers, started, show, show_new)


def _run_prepared(
    settings: Settings,
    config: dict[str, Any],
    ranks: Ranks,
    prepared: Prepared,
    trackers: list[Tracker],
    started: float,
    show: Show,
    show_new: Show,
) -> float:
    """Train, export and report, with tables that are encoded and trackers that answer."""
    with writing("paths.output_dir: cannot be written"):
        # only now, when the data are known to be good: until then the earlier run stays where it is
        if settings.resume == "never" and ranks.rank == 0:
            set_aside(settings.paths, show)
        machine = _machine_for(settings, prepared, ranks)
        for note in machine.notes:
            show_new(note)
        # what trackers remember lies with the checkpoints: a run that begins anew has set it aside by now
        begin_tracking(trackers, Path(settings.paths.output_dir), config, show)
        built = assemble(settings, prepared, machine, ranks)
        if ranks.rank == 0:
            log_settings(built.trainer.loggers, hidden(config))
        attach_trackers(trackers, settings.logger, built)
        attach(Path(settings.paths.output_dir), built.classifier, built.checkpointer, reports=ranks.rank == 0)
        reason = _train(settings, built, show)
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # rank 0 goes on alone, and metrics must not wait for the others
        if ranks.rank != 0:
            # this rank has no report, and the same history
            row = selected_row(built.classifier.progress.history, built.checkpointer.monitor)
            return _objective(dict(row), settings.objective)
        report = _finish(settings, config, prepared, built, reason, started, show)
    # the page is no part of the result: a run that is killed in it is finished, and makes up for it
    _write_page(settings, prepared, show)
    keep_results(trackers, settings, built, report)
    show_report(report, settings.paths, show)
    return _objective(report, settings.objective)


def _prepared(settings: Settings, ranks: Ranks, show: Show) -> Prepared:
    cache_dir = Path(settings.paths.cache_dir)
    progress = settings.callbacks.progress if ranks.rank == 0 else "none"
    if settings.data.shards is not None:
        prepared = prepare_shards(
            settings.data, settings.schema, ranks, cache_dir=cache_dir, show=show, progress=progress
        )
        if settings.decision is not None:
            check_decision(settings.decision, prepared.encoder.task)
        if settings.baselines is not None:
            show("baselines: left out: they are fitted on the whole of train, of which data.shards leaves ranks a part")
    else:
        prepared = prepare(
            gather_shards(settings.data, ranks, cache_dir, show),
            settings.schema,
            seed=settings.seed,
            cache_dir=cache_dir,
            show=show,
            progress=progress,
            decision=settings.decision,
        )
    prepared = limited(prepared, _row_limits(settings, prepared))
    for line in sizes_by_rows(settings, prepared):
        show(line)
    return prepared


def _finish(
    settings: Settings,
    config: dict[str, Any],
    prepared: Prepared,
    built: Assembly,
    reason: str,
    started: float,
    show: Show,
) -> Report:
    """Export and evaluate, unless all of it is there from an earlier call and whole."""
    history = Path(settings.paths.output_dir) / HISTORY
    # may be damaged or lost, and no epoch follows that would write it again
    if settings.logger.csv and not is_history(history, built.classifier.progress.history):
        write_history(history, built.classifier.progress.history)
    facts = _facts(settings, prepared, built)
    splits = [split for split in ("val", "test") if split in prepared.tables]
    report, why = finished_report(settings.paths, facts, splits)
    if report is not None:
        show(f"resume: this run is complete ({reason}); resume=never starts anew")
        return report
    if why:
        show(f"resume: {why}: its results are made again")
    (Path(settings.paths.output_dir) / PAGE).unlink(missing_ok=True)  # it is of other weights
    report = export(settings, config, prepared, built)
    report |= {"stop_reason": reason, "seconds": round(time.monotonic() - started, 3)}
    write_json(Path(settings.paths.output_dir) / REPORT, report)
    mark_finished(settings.paths, facts, splits)
    return report


def _write_page(settings: Settings, prepared: Prepared, show: Show) -> None:
    """Write the page where there is none; a run that is called again makes up for one that it was killed in.

    A page costs seconds of a core, which a trial of a sweep is seldom worth: it has one where that is asked for.
    """
    output = Path(settings.paths.output_dir)
    if is_trial(output) and not settings.report.trials:
        return
    if settings.report.page and not (output / PAGE).exists():
        limits = Limits(rows=settings.report.rows, seconds=settings.report.seconds)
        report_run(output, settings.paths.model, prepared.sources, prepared.findings, limits, show)


def _shortened(trainer: TrainerSettings) -> TrainerSettings:
    if not trainer.fast_dev_run:
        return trainer
    return replace(trainer, max_epochs=1, limit_train_batches=1, limit_val_batches=1, limit_test_batches=1)


def _row_limits(settings: Settings, prepared: Prepared) -> dict[Split, int | None]:
    trainer, data = settings.trainer, settings.data
    batches: dict[Split, tuple[int | None, int]] = {
        "train": (trainer.limit_train_batches, batch_size_of(settings, prepared)),
        "val": (trainer.limit_val_batches, data.eval_batch_size),
        "test": (trainer.limit_test_batches, data.eval_batch_size),
    }
    return {split: None if limit is None else limit * size for split, (limit, size) in batches.items()}


def _facts(settings: Settings, prepared: Prepared, built: Assembly) -> dict[str, Any]:
    """Return what the report of a finished run hangs on besides what its checkpoints are bound to."""
    history = built.classifier.progress.history
    test = prepared.sources["test"].fingerprint() if "test" in prepared.sources else None
    best = selected_row(history, built.checkpointer.monitor)["epoch"]
    asked: dict[str, Any] = {"baselines": settings.baselines, "decision": settings.decision}
    if settings.export is not None:
        asked["export"] = settings.export
    limit = settings.trainer.limit_test_batches
    return {"epochs": len(history), "best_epoch": best, "data.test": test, "test_batches": limit, **asked}


def _train(settings: Settings, built: Assembly, show: Show) -> str:
    """Train until a rule ends the run and return the reason."""
    store = built.checkpointer.store
    store.clean()
    found = find_checkpoint(settings.resume, store)
    if found is not None:
        progress = found[1]["progress"]
        if over(built.checkpointer, progress) is None:
            show(f"resume: going on from {found[0]} (epoch {progress['epoch'] + 1}, batch {progress['batch']})")
            for name in without_state(built.trainer.callbacks):  # type: ignore[attr-defined]
                show(f"resume: {name} of callbacks.extra keeps no state: it begins anew")
            if step_without_state(built.classifier):
                show(f"resume: {type(built.classifier).__name__} of classifier.name keeps no state of its own")
    check_stopped()
    return train(built.trainer, built.classifier, built.data, built.checkpointer, found)


def _objective(report: Mapping[str, Any], objective: str) -> float:
    value = report.get(objective)
    return float("nan") if value is None else float(value)
