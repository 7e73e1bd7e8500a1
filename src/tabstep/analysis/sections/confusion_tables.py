"""Confusion of the classes, or the hits and misses of each label, at the thresholds of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tabstep.analysis.curves import confusion, decisions
from tabstep.analysis.sampled_rows import Predicted
from tabstep.analysis.sections.facts import MOST_ROWS, RunFacts, cuts_of, last_predictions, share, task_of
from tabstep.page.document import (
    paragraph,
)
from tabstep.page.table import Cell, heat_table, table

_MOST_CONFUSED: Final = 20


def confusion_section(facts: RunFacts) -> Iterator[str]:
    last = last_predictions(facts)
    if last is None or facts.encoder is None:
        return
    split, predicted = last
    names = [str(name) for name in facts.encoder.classes]
    if task_of(facts) == "multilabel":
        yield _label_table(predicted, names, cuts_of(facts))
        return
    counts = confusion(predicted.y, _predicted(facts, predicted), len(names))
    if len(names) <= _MOST_CONFUSED:
        yield heat_table(names, counts.tolist(), "is / taken for")
    else:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSED]
        pairs = [(int(place) // len(names), int(place) % len(names)) for place in order]
        rows: list[list[Cell]] = [[names[a], names[b], int(wrong[a, b])] for a, b in pairs if wrong[a, b]]
        yield table(["is", "taken for", "rows"], rows)
    yield _class_table(counts, names)
    how = f"at threshold {cuts_of(facts)[0]:.4g}" if task_of(facts) == "binary" else "by the likeliest class"
    yield paragraph(f"Rows of {split} {how}; shares are of a row.", kind="muted")


def _predicted(facts: RunFacts, predicted: Predicted) -> NDArray[np.int64]:
    if task_of(facts) == "binary":
        return (predicted.probs[:, 1].astype(np.float64) > cuts_of(facts)[0]).astype(np.int64)
    return np.asarray(predicted.probs.argmax(axis=1), dtype=np.int64)


def _class_table(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    right, actual, taken = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    rows: list[list[Cell]] = [
        [
            name,
            int(actual[place]),
            share(right[place], taken[place]),
            share(right[place], actual[place]),
            share(2 * right[place], taken[place] + actual[place]),
        ]
        for place, name in enumerate(names)
    ]
    return table(["class", "rows", "precision", "recall", "F1"], rows[:MOST_ROWS])


def _label_table(predicted: Predicted, names: Sequence[str], thresholds: Sequence[float]) -> str:
    rows: list[list[Cell]] = []
    for place, name in enumerate(names):
        cut = decisions(
            predicted.probs[:, place], predicted.y[:, place] > 0, [thresholds[min(place, len(thresholds) - 1)]]
        )
        tp, fp, fn, tn = (int(part[0]) for part in (cut.tp, cut.fp, cut.fn, cut.tn))
        rows.append([name, tp, fp, fn, tn, share(tp, tp + fp), share(tp, tp + fn), share(2 * tp, 2 * tp + fp + fn)])
    head = ["label", "found", "false alarms", "missed", "rightly not", "precision", "recall", "F1"]
    return table(head, rows[:MOST_ROWS])
