"""Builds the scores of each split, and refuses an objective or a monitor that is none of them."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L

from tabstep.config.settings import Settings
from tabstep.encoding.encoder import Encoder
from tabstep.errors import UserError, nearest
from tabstep.log_lines import CALIBRATED, SCORES
from tabstep.registry import CALLBACKS, PluginSettings
from tabstep.training.calibration import CalibratedLogLoss
from tabstep.training.extra_metrics import build_extra_metrics, score_names
from tabstep.training.metrics import build_metrics
from tabstep.training.scores import EpochScores

EXACT_ROWS = 10_000_000
"""Rows of a split up to which ranking metrics keep every probability; above, they count in bins."""
# ranking metrics are off by 6e-5 at most, which four digits hardly show
BINS = 16_384


def build_scores(
    encoder: Encoder, num_rows: int, extra: Sequence[PluginSettings] = (), *, calibrated: bool = False
) -> EpochScores:
    """Build the metrics of one split: exact up to ``EXACT_ROWS`` rows.

    ``calibrated`` adds the log-loss that a temperature would leave, by which epochs are told apart.

    Raises:
        UserError: a metric of another package does not like its options or the task.
    """
    binned = num_rows > EXACT_ROWS
    metrics = build_metrics(encoder.task, encoder.num_outputs, thresholds=BINS if binned else None)
    metrics.add_metrics({**build_extra_metrics(extra, encoder.task, encoder.num_outputs, class_names(encoder))})
    if calibrated:
        metrics.add_metrics({"calibrated": CalibratedLogLoss(encoder.task, encoder.num_outputs)})
    return EpochScores(metrics, encoder.task, binned=binned)


def class_names(encoder: Encoder) -> list[str]:
    """Return what the scores of a class are called; a binary task has those of the positive class alone."""
    return [] if encoder.task == "binary" else [str(name) for name in encoder.classes]


def check_monitors(settings: Settings, encoder: Encoder, callbacks: Sequence[L.Callback]) -> None:
    """Refuse an objective, or what a callback watches, that is no column of the history.

    Raises:
        UserError: with the nearest name.
    """
    extra = settings.metrics.extra
    # built for their keys alone, which say whether less is better: only the metric knows
    made = build_extra_metrics(extra, encoder.task, encoder.num_outputs, class_names(encoder))
    scores = (*SCORES, *score_names(made, class_names(encoder)))
    names = [*(f"{split}_{key}" for split in ("val", "train") for key in scores), f"val_{CALIBRATED}"]
    watched = {
        "objective": settings.objective,
        "callbacks.early_stopping.monitor": settings.callbacks.early_stopping.monitor,
        "callbacks.checkpoint.monitor": settings.callbacks.checkpoint.monitor,
    }
    # What a callback of somebody else's logs is not known here, and may be watched as well.
    if all(type(each).__module__.partition(".")[0] in ("lightning", "tabstep") for each in callbacks):
        watched |= {
            f"{CALLBACKS.key}: {type(each).__name__}.monitor": monitor
            for each in callbacks
            if isinstance(monitor := getattr(each, "monitor", None), str)
        }
    for place, name in watched.items():
        if name not in names:
            raise UserError(f"{place}: no score is called {name!r}: {nearest(name, names)}")
