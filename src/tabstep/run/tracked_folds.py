"""A cross-validation in the trackers: a run of MLflow with one child a fold, a group in Weights & Biases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabstep.config.settings import Settings
from tabstep.run.prepared import Show
from tabstep.run.tracked import begin_tracking, exported_scores, tracked
from tabstep.run_files import MODEL, PAGE, REPORT
from tabstep.tracking.tracker import Results

Keep = Callable[[Mapping[str, Any]], None]


@contextmanager
def tracked_folds(settings: Settings, config: Mapping[str, Any], show: Show) -> Iterator[tuple[Settings, Keep]]:
    """Yield settings whose folds are relatives in the trackers, and what keeps the report, the page and the model.

    Raises:
        UserError: a package is missing, or a server refuses. RetryError: a server does not answer.
    """
    logger, output = settings.logger, Path(settings.paths.output_dir)
    # Weights & Biases knows no parents: a group is its whole, and there is no run of it
    whole = replace(settings, logger=replace(logger, wandb=replace(logger.wandb, enabled=False)))
    with tracked(whole) as trackers:
        begin_tracking(trackers, output, config, show)
        run_ids = [tracker.remembered().get("run_id") for tracker in trackers]

        def keep(report: Mapping[str, Any]) -> None:
            for tracker in trackers:
                model = {MODEL: settings.paths.model} if logger.mlflow.model else {}
                artifacts = {REPORT: output / REPORT, PAGE: output / PAGE, **model}
                scores = exported_scores(report)
                tracker.keep([], Results(file=output / REPORT, scores=scores, epoch=0, artifacts=artifacts))

        mlflow = replace(logger.mlflow, parent=run_ids[0]) if run_ids else logger.mlflow
        wandb = replace(logger.wandb, group=logger.wandb.group or output.name)
        yield replace(settings, logger=replace(logger, mlflow=mlflow, wandb=wandb)), keep


def named_fold(settings: Settings, own: Settings, fold: int) -> Settings:
    """Name a fold's runs after the whole one's."""
    output, logger = Path(settings.paths.output_dir), own.logger
    mlflow = replace(logger.mlflow, run_name=f"{logger.mlflow.run_name or output.name} fold {fold}")
    wandb = replace(logger.wandb, run_name=f"{logger.wandb.run_name or output.name} fold {fold}")
    return replace(own, logger=replace(logger, mlflow=mlflow, wandb=wandb))
