"""Curves of a run's predictions: ROC, precision and recall, reliability, the distribution of probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabstep.analysis import run_pictures
from tabstep.analysis.curves import Curve, curve, reliability
from tabstep.analysis.run_pictures import MOST_CLASSES
from tabstep.analysis.sampled_rows import Predicted, row_count
from tabstep.analysis.sections.facts import RunFacts, drawn, last_predictions, number_text, task_of
from tabstep.analysis.weighted_scores import indicators
from tabstep.page.document import (
    grid,
    paragraph,
)
from tabstep.schema import Task


def curve_section(facts: RunFacts) -> Iterator[str]:
    last = last_predictions(facts)
    if last is None:
        return
    split, predicted = last
    curves = _class_curves(facts)
    probs, what = _confidence(facts, predicted.probs, predicted.y)
    before = uncalibrated(predicted.probs, facts.run.report.get("temperature", [1.0]), task_of(facts))
    bins = {_with_error("predicted", facts, split, "ece"): reliability(*probs)}
    if before is not None:
        raw, _ = _confidence(facts, before, predicted.y)
        bins = {
            _with_error("before", facts, split, "raw_ece"): reliability(*raw),
            _with_error("after", facts, split, "ece"): reliability(*probs),
        }
    groups, label = _score_groups(facts, predicted)
    yield grid(
        drawn(
            [
                (f"ROC of {_splits(facts)}", lambda: run_pictures.roc(curves)),
                (f"Precision and recall of {_splits(facts)}", lambda: run_pictures.precision_recall(curves)),
                (f"Reliability of {what} on {split}", lambda: run_pictures.calibration(bins)),
                (f"{label.capitalize()} on {split}", lambda: run_pictures.score_histogram(groups, label)),
            ]
        )
    )
    looked_at = [f"{name}: {row_count(len(some.probs), some.total)}" for name, some in facts.predictions.items()]
    yield paragraph(f"{'; '.join(looked_at)}.", kind="muted")


def _with_error(name: str, facts: RunFacts, split: str, key: str) -> str:
    """Name a curve, with the calibration error that the report states of the split: of all its rows, in its bins."""
    report = facts.run.report
    # of a cross-validation, what val_* has is a mean over the folds, and the predictions are those of all together
    joined = report.get("out_of_fold", {}) if split == "val" else {}
    error = joined.get(key, report.get(f"{split}_{key}"))
    return name if error is None else f"{name} (ECE {number_text(error)})"


def _splits(facts: RunFacts) -> str:
    last = last_predictions(facts)
    return " and ".join(facts.predictions) if task_of(facts) == "binary" else str(last and last[0])


def _class_curves(facts: RunFacts) -> dict[str, Curve]:
    """Return the curve of each split of a binary task, or of the most frequent classes of the last split."""
    if task_of(facts) == "binary":
        return {split: curve(predicted.probs[:, 1], predicted.y > 0) for split, predicted in facts.predictions.items()}
    last = last_predictions(facts)
    assert last is not None
    assert facts.encoder is not None
    predicted = last[1]
    truth = indicators(predicted.y, task_of(facts), predicted.probs.shape[1])
    frequent = np.argsort(-truth.sum(axis=0), kind="stable")[:MOST_CLASSES]
    names = [str(name) for name in facts.encoder.classes]
    return {names[place]: curve(predicted.probs[:, place], truth[:, place]) for place in sorted(frequent.tolist())}


def _confidence(
    facts: RunFacts, probs: NDArray[np.float32], y: NDArray[Any]
) -> tuple[tuple[NDArray[np.float32], NDArray[np.bool_]], str]:
    """Return probabilities and whether they came true, and what they are of."""
    if task_of(facts) == "binary":
        return (probs[:, 1], y > 0), "the positive class"
    if task_of(facts) == "multilabel":
        return (probs.ravel(), (y > 0).ravel()), "all labels"
    return (probs.max(axis=1), probs.argmax(axis=1) == y), "the predicted class"


def uncalibrated(probs: NDArray[np.float32], temperature: Sequence[float], task: Task) -> NDArray[np.float32] | None:
    """Return the probabilities before logits were divided by a temperature; None where it changes nothing.

    >>> uncalibrated(np.float32([[0.2, 0.8]]), [2.0], "binary").astype(float).round(4).tolist()
    [[0.0588, 0.9412]]
    """
    if all(value == 1.0 for value in temperature):
        return None
    tiny = np.finfo(np.float32).tiny
    logs = np.log(np.maximum(probs.astype(np.float64), tiny))
    if task == "multilabel":
        logits = (logs - np.log1p(-probs.astype(np.float64).clip(0, 1 - 1e-7))) * np.asarray(temperature)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)
    # log p is a logit but for a constant, which the division by the sum takes out
    powers = logs * temperature[0]
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def _score_groups(facts: RunFacts, predicted: Predicted) -> tuple[dict[str, NDArray[np.float32]], str]:
    assert facts.encoder is not None
    names = [str(name) for name in facts.encoder.classes]
    if task_of(facts) == "binary":
        positive = predicted.probs[:, 1]
        return {names[place]: positive[predicted.y == place] for place in (0, 1)}, f"probability of {names[1]}"
    (probs, right), what = _confidence(facts, predicted.probs, predicted.y)
    return {"right": probs[right], "wrong": probs[~right]} if task_of(facts) == "multiclass" else {
        "has the label": probs[right],
        "has it not": probs[~right],
    }, f"probability of {what}"
