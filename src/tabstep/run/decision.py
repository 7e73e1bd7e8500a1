"""Decisions of a run: thresholds chosen on val for the goal that was set, and what they reach on val and test."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from torch import Tensor

from tabstep.analysis.sampled_rows import read_predictions
from tabstep.artifact.member import Member
from tabstep.decision_goal import Goal, parse_goal
from tabstep.encoding.encoder import Encoder
from tabstep.models.probabilities import probabilities
from tabstep.run_files import predictions_file
from tabstep.schema import Split
from tabstep.training.thresholds import choose_threshold, count_cells, figure, figures

_ROWS: Final = 200_000
_FEWEST_POSITIVES: Final = 20
_FAR_ABOVE: Final = 0.1
"""More than what the best of many thresholds gains by chance."""


def choose_thresholds(decision: str, member: Member, logits: Tensor, y: np.ndarray) -> tuple[float, ...]:
    """Choose the threshold of the positive class, or of each label, on val.

    Args:
        logits: of val, ``(N, num_outputs)``, not calibrated; of a task that ``check_decision`` has passed.
    """
    return thresholds_for(decision, member.encoder, probabilities(member.calibrated(logits), member.encoder.task), y)


def thresholds_for(decision: str, encoder: Encoder, probs: Tensor, y: np.ndarray) -> tuple[float, ...]:
    """Return as ``choose_thresholds``, by the probabilities of the positive class, or of each label."""
    goal = parse_goal(decision)
    columns, labels = probs.cpu().numpy().reshape(len(y), -1), y.reshape(len(y), -1)
    choices = [choose_threshold(columns[:, index], labels[:, index], goal) for index in range(columns.shape[1])]
    # a binary task has one choice, that of its last class, the positive one
    for name, choice in zip(encoder.classes[-len(choices) :], choices, strict=True):
        if not choice.reached:
            warnings.warn(
                f"decision: no threshold has {decision} for {name!r} on val: that of the highest {goal.name} is taken",
                stacklevel=2,
            )
    return tuple(choice.threshold for choice in choices)


def decision_report(
    decision: str, thresholds: tuple[float, ...], encoder: Encoder, labels: Mapping[Split, np.ndarray], output: Path
) -> dict[str, Any]:
    """Return the figures of val and test at the thresholds and at 0.5, from the predictions that are stored."""
    goal = parse_goal(decision)
    found: dict[str, Any] = {"goal": decision, "thresholds": list(thresholds)}
    for split in ("val", "test"):
        if split in labels:
            probs = _stored(predictions_file(output, split), encoder)
            y = labels[split].reshape(len(probs), -1)
            found[split] = _at(probs, y, thresholds, goal)
            found[f"{split}_at_0.5"] = _at(probs, y, (0.5,) * probs.shape[1], goal)
    return found


def _at(probs: np.ndarray, y: np.ndarray, thresholds: tuple[float, ...], goal: Goal) -> Any:
    """Return the figures of the one column, or those of each."""
    cells = [count_cells(probs[:, index], y[:, index], value) for index, value in enumerate(thresholds)]
    parts = [figures(part, goal) for part in cells]
    return parts[0] if len(parts) == 1 else parts


def _stored(file: Path, encoder: Encoder) -> np.ndarray:
    """Read the probabilities of the positive class, or of each label: the last of those behind id and label."""
    table = pq.read_table(file, page_checksum_verification=True)
    # id, label, then the probabilities of the classes; a binary task has both, the positive one last
    last = len(encoder.schema.columns) - len(encoder.schema.features) + encoder.num_classes
    return np.column_stack([table.column(index).to_numpy() for index in range(last - encoder.num_outputs, last)])


def low_f1(encoder: Encoder, output: Path) -> dict[str, float] | None:
    """Return the threshold of the highest F1 on val, where that is far above the F1 at 0.5; else None.

    A rare class seldom has a probability above 0.5, however well a model ranks.
    """
    if encoder.task != "binary":
        return None
    predicted = read_predictions(predictions_file(output, "val"), encoder, _ROWS)
    if np.count_nonzero(predicted.y > 0) < _FEWEST_POSITIVES:
        return None
    probs = predicted.probs[:, 1]
    threshold = choose_threshold(probs, predicted.y, parse_goal("f1")).threshold
    plain, best = (float(figure(count_cells(probs, predicted.y, each), "f1")) for each in (0.5, threshold))
    found = {"threshold": threshold, "val_f1": best, "val_f1_at_0.5": plain}
    return found if best > plain + _FAR_ABOVE else None


def low_f1_line(low: Mapping[str, float]) -> str:
    """Say that another threshold than 0.5 has a better F1.

    >>> low_f1_line({"threshold": 0.1379, "val_f1": 0.45, "val_f1_at_0.5": 0.0})
    'f1 is that of probabilities above 0.5: 0.0000 on val, 0.4500 above 0.1379; decision=f1 chooses a threshold'
    """
    return (
        f"f1 is that of probabilities above 0.5: {low['val_f1_at_0.5']:.4f} on val, {low['val_f1']:.4f} above "
        f"{low['threshold']:.4f}; decision=f1 chooses a threshold"
    )


def decision_line(decision: Mapping[str, Any]) -> str:
    """Say what the threshold of a binary task reaches, with the 95 % interval of each figure.

    >>> at = {"accuracy": 0.9, "precision": 0.75, "recall": 0.6, "f1": 0.667, "intervals": {"f1": [0.6, 0.7]}}
    >>> decision_line({"goal": "f1", "thresholds": [0.31], "test": at, "test_at_0.5": {**at, "f1": 0.5}})
    'decision: f1 at threshold 0.3100; on test f1 0.6670 (0.6000 to 0.7000), 0.5000 at 0.5'
    >>> at = {"cost": 0.6283, "intervals": {"cost": [0.5, 0.75]}}
    >>> found = {"goal": "cost={fp: 1, fn: 9}", "thresholds": [0.08], "test": at, "test_at_0.5": {"cost": 1.2}}
    >>> decision_line(found).partition("; ")[2]
    'on test cost per row 0.6283 (0.5000 to 0.7500), 1.2000 at 0.5'
    """
    split = "test" if "test" in decision else "val"
    found, plain = decision[split], decision[f"{split}_at_0.5"]
    if isinstance(found, list):
        places = ", ".join(f"{value:.4f}" for value in decision["thresholds"])
        return f"decision: {decision['goal']} at thresholds {places}"
    name = next((name for name in found["intervals"] if decision["goal"].startswith(name)), "f1")
    low, high = found["intervals"][name]
    words = "cost per row" if name == "cost" else name
    return (
        f"decision: {decision['goal']} at threshold {decision['thresholds'][0]:.4f}; "
        f"on {split} {words} {found[name]:.4f} ({low:.4f} to {high:.4f}), {plain[name]:.4f} at 0.5"
    )
