"""The run of a sweep in MLflow, of which those of its trials are children; Weights & Biases has groups instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tabstep.config.settings import Settings
from tabstep.errors import StoppedError
from tabstep.run_files import PAGE
from tabstep.sweep.leaderboard import CSV, best_trial
from tabstep.sweep.ledger import HEADER, Ledger
from tabstep.tracking.mlflow import MlflowTracker
from tabstep.tracking.tracker import Results


@contextmanager
def tracked_sweep(ledger: Ledger, settings: Sequence[Settings]) -> Iterator[list[str]]:
    """Keep a run for the sweep, and yield the overrides by which a trial that runs elsewhere finds its relatives.

    Args:
        settings: of a few trials.

    Raises:
        UserError: MLflow refuses, or its package is missing. RetryError: it does not answer.
    """
    wandb = [f"logger.wandb.group={ledger.header.study}"] if any(each.logger.wandb.enabled for each in settings) else []
    tracker = _tracker(ledger, settings)
    if tracker is None:
        yield wandb
        return
    tracker.reach()
    header = ledger.header
    chosen = {key: getattr(header, key) for key in ("study", "objectives", "directions", "sampler", "pruner", "seed")}
    tracker.begin({"sweep": chosen, "space": dict(header.space)}, ledger.directory / CSV)
    try:
        # Quoted: a number of 32 digits may look like one in the grammar of overrides.
        yield [f"logger.mlflow.parent='{tracker.remembered()['run_id']}'", *wandb]
    except BaseException as error:
        tracker.end("killed" if isinstance(error, StoppedError | KeyboardInterrupt) else "failed")
        raise
    tracker.keep([], _results(ledger))
    tracker.end("finished")


def _tracker(ledger: Ledger, settings: Sequence[Settings]) -> MlflowTracker | None:
    chosen = next((each.logger.mlflow for each in settings if each.logger.mlflow.enabled), None)
    if chosen is None:
        return None
    return MlflowTracker(
        ledger.directory,
        tracking_uri=chosen.tracking_uri,
        experiment=chosen.experiment,
        run_name=chosen.run_name or ledger.directory.name,
        parent=chosen.parent,
        tags=chosen.tags,
    )


def _results(ledger: Ledger) -> Results:
    best, count = best_trial(ledger), len(ledger.trials)
    values = {} if best is None else dict(zip(ledger.header.objectives, best.values, strict=False))
    scores = {f"best_{key}": value for key, value in values.items()} | {"trials": float(count)}
    names = (CSV, PAGE, HEADER)
    artifacts = {name: ledger.directory / name for name in names}
    return Results(file=ledger.directory / CSV, scores=scores, epoch=count, artifacts=artifacts)
