"""A whole run from its settings: prepare the data, train, export the best epoch, score it, report."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from rich.console import Console

from tabstep.artifact.save import check_place, write_json
from tabstep.config.parse import to_dict
from tabstep.config.settings import PathSettings, Settings
from tabstep.run.build import Assembly, assemble
from tabstep.run.export import PREDICTIONS, REPORT, Report, export, show_report
from tabstep.run.finished import DONE, finished_report, mark_finished
from tabstep.run.prepare import Prepared, Show, prepare
from tabstep.run.shards import gather_shards
from tabstep.sweep.trial import attach
from tabstep.system.atomic_write import check_writable
from tabstep.system.devices import Machine, resolve_machine
from tabstep.system.exits import writing
from tabstep.system.locks import LOCK, exclusive
from tabstep.system.ranks import Ranks, agree_on, current_ranks, run_ranks
from tabstep.training.fit import find_checkpoint, train
from tabstep.training.stopping import selected_row

_OUTPUTS = (PREDICTIONS, "tensorboard", "metrics.csv", REPORT, DONE)


def run(settings: Settings, config: dict[str, Any]) -> float:
    """Run everything and return the objective's value at the exported epoch.

    Args:
        config: the composed configuration as plain containers, kept with the model.

    Raises:
        UserError: the input or the configuration is wrong.
        StoppedError: a signal came; the state is saved.
    """
    machine = resolve_machine(settings.trainer.accelerator, settings.trainer.devices, settings.trainer.precision)
    ranks = current_ranks()
    if machine.devices > 1 and not ranks.launched:
        return _run_on_devices(settings, machine.devices)
    output = agree_on(ranks, "output_dir", settings.paths.output_dir)
    settings = replace(settings, paths=replace(settings.paths, output_dir=output))
    with _plain_messages(), _locked(settings.paths) if ranks.rank == 0 else nullcontext():
        return _run_locked(settings, config, machine, ranks)


@contextmanager
def _locked(paths: PathSettings) -> Iterator[None]:
    with exclusive(Path(paths.output_dir)):
        if paths.checkpoint_dir is None:
            yield
            return
        check_writable(paths.checkpoints, "paths.checkpoint_dir")
        with exclusive(paths.checkpoints, "paths.checkpoint_dir"):
            yield


@contextmanager
def _plain_messages() -> Iterator[None]:
    """Show a warning as one line without the source it came from, and of Lightning only what needs attention."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr, flush=True)
        # Lightning 2.6.6 asks torch 2.13 in a way that torch has deprecated.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        yield


def _run_on_devices(settings: Settings, devices: int) -> float:
    output = Path(settings.paths.output_dir)
    run_ranks(to_dict(settings), devices, output / "ranks")
    report: Report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    return _objective(report, settings.objective)


def _run_locked(settings: Settings, config: dict[str, Any], machine: Machine, ranks: Ranks) -> float:
    started = time.monotonic()
    output = Path(settings.paths.output_dir)
    show = _shower(ranks)
    for note in machine.notes:
        show(note)
    if ranks.rank == 0:
        _check_places(settings.paths)
    cache_dir = Path(settings.paths.cache_dir)
    data = gather_shards(settings.data, ranks, cache_dir, show)
    prepared = prepare(data, settings.schema, seed=settings.seed, cache_dir=cache_dir, show=show)
    with writing("paths.output_dir: cannot be written"):
        if settings.resume == "never" and ranks.rank == 0:
            _set_aside(settings.paths, show)
        built = assemble(settings, prepared, machine, ranks)
        attach(output, built.classifier, built.checkpointer, reports=ranks.rank == 0)
        reason = _train(settings, built, show)
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # rank 0 goes on alone, and metrics must not wait for the others
        if ranks.rank != 0:
            row = selected_row(built.classifier.progress.history, settings.objective)
            return _objective(dict(row), settings.objective)
        facts = _facts(settings, prepared, built)
        splits = [split for split in ("val", "test") if split in prepared.tables]
        report, lost = finished_report(settings.paths, facts, splits)
        if report is not None:
            show(f"resume: this run is complete ({reason}); resume=never starts anew")
        else:
            if lost:
                show(f"resume: {lost} of this finished run is damaged or missing: its results are made again")
            report = export(settings, config, prepared, built)
            report |= {"stop_reason": reason, "seconds": round(time.monotonic() - started, 3)}
            write_json(output / REPORT, report)
            mark_finished(settings.paths, facts, splits)
    show_report(report, settings.paths, show)
    return _objective(report, settings.objective)


def _check_places(paths: PathSettings) -> None:
    """Find in the first second, not after the training, what cannot be written."""
    check_writable(Path(paths.output_dir), "paths.output_dir")
    if paths.model_dir is not None or not (Path(paths.output_dir) / DONE).exists():  # of a finished run it is our own
        check_place(paths.model, "paths.model_dir")
    check_writable(paths.model.parent, "paths.model_dir")


def _facts(settings: Settings, prepared: Prepared, built: Assembly) -> dict[str, Any]:
    """Return what the report of a finished run hangs on besides what its checkpoints are bound to."""
    history = built.classifier.progress.history
    test = prepared.sources["test"].fingerprint() if "test" in prepared.sources else None
    best = selected_row(history, settings.objective)["epoch"]
    return {"epochs": len(history), "best_epoch": best, "data.test": test}


def _train(settings: Settings, built: Assembly, show: Show) -> str:
    """Train until a rule ends the run and return the reason."""
    store = built.checkpointer.store
    store.clean()
    found = find_checkpoint(settings.resume, store)
    if found is not None:
        progress = found[1]["progress"]
        if built.checkpointer.stop_rule.reason(progress["history"], progress["seconds"]) is None:
            show(f"resume: going on from {found[0]} (epoch {progress['epoch'] + 1}, batch {progress['batch']})")
    return train(built.trainer, built.classifier, built.data, built.checkpointer, found)


def _objective(report: Mapping[str, Any], objective: str) -> float:
    value = report.get(objective)
    return float("nan") if value is None else float(value)


def _set_aside(paths: PathSettings, show: Show) -> None:
    """Move what an earlier run left into ``previous-<n>``: starting anew must not destroy it."""
    output = Path(paths.output_dir)
    places = {"checkpoints": paths.checkpoints, "model": paths.model} | {name: output / name for name in _OUTPUTS}
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


def _shower(ranks: Ranks) -> Show:
    """Return what prints on rank 0, and nothing on the others."""
    if ranks.rank != 0:
        return lambda _: None
    console = Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=120)

    def show(item: Any) -> None:
        if isinstance(item, str):
            print(item, flush=True)
        else:
            console.print(item)

    return show
