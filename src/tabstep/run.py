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

from tabstep.artifact import write_json
from tabstep.assembly import Assembly, assemble
from tabstep.checkpoints import exclusive
from tabstep.config.settings import PathSettings, Settings
from tabstep.export import PREDICTIONS, REPORT, Report, export, show_report
from tabstep.machine import Machine, resolve_machine
from tabstep.preparation import Show, prepare
from tabstep.ranks import Ranks, agree_on, current_ranks, run_ranks
from tabstep.stopping import selected_row
from tabstep.training import find_checkpoint, train

DONE = "DONE"
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
        return _run_on_devices(settings, config, machine.devices)
    output = agree_on(ranks, "output_dir", settings.paths.output_dir)
    settings = replace(settings, paths=replace(settings.paths, output_dir=output))
    with _plain_messages(), exclusive(Path(output)) if ranks.rank == 0 else nullcontext():
        return _run_locked(settings, config, machine, ranks)


@contextmanager
def _plain_messages() -> Iterator[None]:
    """Show a warning as one line without the source it came from, and of Lightning only what needs attention."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_args, **_kwargs: print(f"warning: {message}", file=sys.stderr, flush=True)
        # Lightning 2.6.6 asks torch 2.13 in a way that torch has deprecated.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        yield


def _run_on_devices(settings: Settings, config: dict[str, Any], devices: int) -> float:
    output = Path(settings.paths.output_dir)
    run_ranks(config, devices, output / "ranks")
    report: Report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    return _objective(report, settings.objective)


def _run_locked(settings: Settings, config: dict[str, Any], machine: Machine, ranks: Ranks) -> float:
    started = time.monotonic()
    output = Path(settings.paths.output_dir)
    show = _shower(ranks)
    for note in machine.notes:
        show(note)
    prepared = prepare(
        settings.data, settings.schema, seed=settings.seed, cache_dir=Path(settings.paths.cache_dir), show=show
    )
    if settings.resume == "never" and ranks.rank == 0:
        _set_aside(settings.paths, show)
    built = assemble(settings, prepared, machine, ranks)
    reason = _train(settings, built, output, show)
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()  # rank 0 goes on alone, and metrics must not wait for the others
    if ranks.rank != 0:
        return _objective(dict(selected_row(built.classifier.progress.history, settings.objective)), settings.objective)
    if reason == "":
        report: Report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    else:
        report = export(settings, config, prepared, built)
        report |= {"stop_reason": reason, "seconds": round(time.monotonic() - started, 3)}
        write_json(output / REPORT, report)
        (output / DONE).touch()
    show_report(report, settings.paths, show)
    return _objective(report, settings.objective)


def _train(settings: Settings, built: Assembly, output: Path, show: Show) -> str:
    """Train until a rule ends the run; an empty reason means that everything had been done before."""
    store = built.checkpointer.store
    store.clean()
    found = find_checkpoint(settings.resume, store)
    before = 0
    if found is not None:
        progress = found[1]["progress"]
        before = len(progress["history"])
        show(f"resume: going on from {found[0]} (epoch {progress['epoch'] + 1}, batch {progress['batch']})")
    reason = train(built.trainer, built.classifier, built.data, built.checkpointer, found)
    if found is not None and before == len(built.classifier.progress.history) and (output / DONE).exists():
        show(f"resume: this run is complete ({reason}); resume=never starts anew")
        return ""
    return reason


def _objective(report: Mapping[str, Any], objective: str) -> float:
    value = report.get(objective)
    return float("nan") if value is None else float(value)


def _set_aside(paths: PathSettings, show: Show) -> None:
    """Move what an earlier run left into ``previous-<n>``: starting anew must not destroy it."""
    output = Path(paths.output_dir)
    old = [path for path in (paths.checkpoints, paths.model, *(output / name for name in _OUTPUTS)) if path.exists()]
    if not old:
        return
    number = 1
    while (output / f"previous-{number}").exists():
        number += 1
    target = output / f"previous-{number}"
    target.mkdir()
    for path in old:
        shutil.move(path, target / path.name)
    show(f"resume=never: the earlier run in {output} was moved to {target}")


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
