"""A whole run from its settings: prepare the data, train, export the best epoch, score it, report."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table

from tabstep import artifact
from tabstep.assembly import Assembly, assemble, build_scores
from tabstep.callbacks.checkpointing import StopTraining
from tabstep.checkpoints import exclusive, load_state
from tabstep.config.settings import Settings
from tabstep.errors import StoppedError, UserError
from tabstep.lines import number
from tabstep.machine import Machine, resolve_machine
from tabstep.predictor import Predictor
from tabstep.preparation import Prepared, Show, prepare
from tabstep.ranks import Ranks, agree_on, current_ranks, run_ranks
from tabstep.results import evaluate
from tabstep.stopping import selected_row
from tabstep.training import find_checkpoint, train

REPORT, DONE, MODEL = "report.json", "DONE", "model"
_OUTPUTS = ("checkpoints", MODEL, "predictions", "tensorboard", "metrics.csv", REPORT, DONE)
Report = dict[str, Any]


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
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with exclusive(Path(output)) if ranks.rank == 0 else nullcontext():
        return _run_locked(settings, config, machine, ranks)


def _run_on_devices(settings: Settings, config: dict[str, Any], devices: int) -> float:
    output = Path(settings.paths.output_dir)
    code = run_ranks(config, devices, output / "ranks")
    if code:
        raise UserError(f"trainer.devices={devices}: a rank ended with an error; its message stands above")
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
        _set_aside(output, show)
    built = assemble(settings, prepared, machine, ranks)
    reason = _train(settings, built, output, show)
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()  # rank 0 goes on alone, and metrics must not wait for the others
    if ranks.rank != 0:
        return _objective(dict(selected_row(built.classifier.progress.history, settings.objective)), settings.objective)
    if reason == "":
        report: Report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    else:
        report = _export(settings, config, prepared, built, output)
        report |= {"stop_reason": reason, "seconds": round(time.monotonic() - started, 3)}
        artifact.write_json(output / REPORT, report)
        (output / DONE).touch()
    _show_report(report, output, prepared, show)
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
    try:
        reason = train(built.trainer, built.classifier, built.data, built.checkpointer, found)
    except StopTraining as stop:
        assert stop.signum is not None
        raise StoppedError(f"{stop}: the state is saved in {store.directory}; the same command goes on", stop.signum) from stop
    if found is not None and before == len(built.classifier.progress.history) and (output / DONE).exists():
        show(f"resume: this run is complete ({reason}); resume=never starts anew")
        return ""
    return reason


def _export(
    settings: Settings, config: Mapping[str, Any], prepared: Prepared, built: Assembly, output: Path
) -> Report:
    """Write the artifact and the predictions of the best epoch; return the report's scores."""
    row = selected_row(built.classifier.progress.history, settings.objective)
    encoder = prepared.encoder
    store = built.checkpointer.store
    best = store.path("best", int(row["step"]))
    weights = eval_weights(load_state(best)["state_dict"])
    model = built.architecture.build()
    model.load_state_dict(weights)
    device = {"cuda": "cuda", "mps": "mps"}.get(built.trainer.strategy.root_device.type, "cpu")
    predictor = Predictor(encoder, model.to(device))
    loss = built.classifier.loss
    report: Report = {}
    for split in ("val", "test"):
        if split in prepared.tables:
            table = prepared.tables[split]
            scores = build_scores(encoder, table.num_rows)
            file = output / "predictions" / f"{split}.parquet"
            report |= {f"{split}_{k}": v for k, v in evaluate(predictor, table, loss, scores, file).items()}
    report |= {key: value for key, value in row.items() if key.startswith("train_")}
    report |= {"best_epoch": row["epoch"], "epochs": len(built.classifier.progress.history)}
    report |= {"objective": settings.objective, "skipped_steps": built.classifier.progress.skipped}
    if prepared.best_auroc is not None:
        report["best_reachable_test_auroc"] = prepared.best_auroc
    golden = artifact.golden_rows([next(prepared.sources["val"].batches(encoder.schema.features, 64))], encoder.schema.features)
    artifact.save(
        output / MODEL,
        weights=weights,
        architecture=built.architecture,
        encoder=encoder,
        golden=golden,
        config=config,
        metrics=report,
    )
    return report


def eval_weights(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights that a checkpoint's epoch was validated with: the moving average where there is one."""
    prefix = "ema.module." if any(name.startswith("ema.") for name in state_dict) else "model."
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}


def _objective(report: Mapping[str, Any], objective: str) -> float:
    value = report.get(objective)
    return float("nan") if value is None else float(value)


def _set_aside(output: Path, show: Show) -> None:
    """Move what an earlier run left into ``previous-<n>``: starting anew must not destroy it."""
    old = [output / name for name in _OUTPUTS if (output / name).exists()]
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


def _show_report(report: Mapping[str, Any], output: Path, prepared: Prepared, show: Show) -> None:
    table = Table(title=f"best epoch {report['best_epoch']} of {report['epochs']}", title_justify="left")
    table.add_column("split")
    names = ("loss", "accuracy", "f1", "auroc", "average_precision", "log_loss")
    for name in names:
        table.add_column(name, justify="right")
    for split in ("train", "val", "test"):
        if f"{split}_loss" in report:
            values = (report.get(f"{split}_{name}") for name in names)
            table.add_row(split, *(number(float("nan") if value is None else value) for value in values))
    show(table)
    if "best_reachable_test_auroc" in report:
        show(f"best reachable test AUROC of the built-in table: {report['best_reachable_test_auroc']:.4f}")
    show(f"model:       {output / MODEL}")
    show(f"predictions: {output / 'predictions'}")
    show(f"report:      {output / REPORT}")
