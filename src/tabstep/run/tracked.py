"""The trackers of a run: made of its settings, begun before the training, told how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabstep.config.secrets import hidden
from tabstep.config.settings import LoggerSettings, Settings
from tabstep.errors import StoppedError
from tabstep.run.build import Assembly
from tabstep.run.prepared import Show
from tabstep.run_files import MODEL, PAGE, REPORT
from tabstep.sweep.trial import Family, family
from tabstep.tracking.mlflow import MlflowTracker
from tabstep.tracking.tracker import Results, Tracker
from tabstep.tracking.wandb import WandbTracker
from tabstep.training.classifier import Classifier
from tabstep.training.loggers import TrackerLogger


@contextmanager
def tracked(settings: Settings) -> Iterator[list[Tracker]]:
    """Yield the trackers that are asked for, and tell them at the end how the run has ended.

    Raises:
        UserError: a package is missing, or a server refuses. RetryError: a server does not answer.
    """
    trackers = build_trackers(settings)
    # before the data are read: a server that does not answer is found in the first second
    for tracker in trackers:
        tracker.reach()
    try:
        yield trackers
    except BaseException as error:  # signals too: a tracker is told how the run ended in any case
        for tracker in trackers:
            tracker.end("killed" if isinstance(error, StoppedError | KeyboardInterrupt) else "failed")
        raise
    for tracker in trackers:
        tracker.end("finished")


def build_trackers(settings: Settings) -> list[Tracker]:
    """Build the trackers. What they remember lies with the checkpoints: it goes on where these do, in a job too."""
    memory, output = settings.paths.checkpoints, Path(settings.paths.output_dir)
    found: list[Tracker] = []
    relatives = family(output) or Family()
    if (chosen := settings.logger.mlflow).enabled:
        tags = {"tabstep.tags": ",".join(settings.tags)} if settings.tags else {}
        found.append(
            MlflowTracker(
                memory,
                tracking_uri=chosen.tracking_uri,
                experiment=chosen.experiment,
                run_name=chosen.run_name or relatives.name or output.name,
                parent=chosen.parent or relatives.parent,
                tags=tags | chosen.tags,
            )
        )
    if (asked := settings.logger.wandb).enabled:
        found.append(
            WandbTracker(
                memory,
                directory=output,
                project=asked.project,
                entity=asked.entity,
                run_name=asked.run_name or relatives.name or output.name,
                group=asked.group or relatives.study,
                mode=asked.mode,
                tags=settings.tags,
            )
        )
    return found


def begin_tracking(trackers: Sequence[Tracker], output: Path, config: Mapping[str, Any], show: Show) -> None:
    """Begin the runs, with the settings as parameters; those of a trial hold its overrides as they were given too."""
    relatives = family(output) or Family()
    for tracker in trackers:
        tracker.begin({**hidden(config), **_missing(relatives.overrides, config)}, output / REPORT)
        if tracker.place:
            show(f"{tracker.name}: {tracker.place}")


def _missing(overrides: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, str]:
    """Return the overrides that choose an option of a group: the others are parameters by themselves."""
    return {f"group.{key}": text for key, text in overrides.items() if isinstance(config.get(key), Mapping)}


def attach_trackers(trackers: Sequence[Tracker], logger: LoggerSettings, built: Assembly) -> None:
    """Let each closed epoch reach the trackers, and what callbacks log; on the ranks without trackers, nobody."""
    for tracker in trackers:
        built.classifier.epoch_listeners.append(_listener(tracker, built.classifier))
    names = [name for name in ("mlflow", "wandb") if getattr(logger, name).enabled]
    there = {tracker.name: tracker for tracker in trackers}
    built.trainer.loggers = [*built.trainer.loggers, *(TrackerLogger(name, there.get(name)) for name in names)]


def _listener(tracker: Tracker, classifier: Classifier) -> Callable[[Mapping[str, float]], None]:
    return lambda _row: tracker.add(classifier.progress.history)


def keep_results(trackers: Sequence[Tracker], settings: Settings, built: Assembly, report: Mapping[str, Any]) -> None:
    """Log what the run has come to: scores of the exported epoch, the page and the report, the model."""
    output = Path(settings.paths.output_dir)
    for tracker in trackers:
        model = {MODEL: settings.paths.model} if getattr(settings.logger, tracker.name).model else {}
        results = Results(
            file=output / REPORT,
            scores=exported_scores(report),
            epoch=int(report["best_epoch"]),
            artifacts={REPORT: output / REPORT, PAGE: output / PAGE, **model},
        )
        tracker.keep(built.classifier.progress.history, results)


def exported_scores(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of the exported model by names that no epoch has.

    >>> exported_scores({"val_auroc": 0.9, "test_auroc": 0.8, "test_f1": None, "epochs": 3, "monitor": "val_loss"})
    {'best_val_auroc': 0.9, 'test_auroc': 0.8}
    """
    named = {f"best_{key}" if key.startswith("val_") else key: value for key, value in report.items()}
    return {
        key: float(value)
        for key, value in named.items()
        if key.startswith(("best_val_", "test_")) and isinstance(value, int | float)
    }
