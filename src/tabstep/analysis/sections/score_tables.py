"""Scores of a run: its splits with intervals, its baselines, the folds of a cross-validation, its epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from tabstep.analysis import run_pictures
from tabstep.analysis.sampled_rows import row_count
from tabstep.analysis.sections.facts import RunFacts, cell, drawn, ranged, task_of
from tabstep.analysis.weighted_scores import SCORES, Interval, intervals
from tabstep.page.document import (
    folded,
    grid,
    paragraph,
)
from tabstep.page.table import Cell, table


def score_section(facts: RunFacts) -> Iterator[str]:
    rows: list[list[Cell]] = []
    notes = []
    train = facts.analysis.get("train_scores")
    if train is not None:
        rows.append(["train", *(ranged(Interval(**train[name])) for name in SCORES)])
        notes.append(f"train: {train['looked_at']}")
    for split, predicted in facts.predictions.items():
        computed = intervals(predicted.probs, predicted.y, task_of(facts))
        joined = split == "val" and "out_of_fold" in facts.run.report
        shown = "out of fold" if joined else split
        rows.append([shown, *(ranged(_exact(computed[name], facts, f"{split}_{name}")) for name in SCORES)])
        notes.append(f"{split}: {row_count(len(predicted.probs), predicted.total)}")
    rows += _baselines(facts.run.report)
    yield table(["split", *(name.replace("_", " ") for name in SCORES)], rows)
    if rows:
        yield paragraph(f"With intervals of 95 % by bootstrap. {'; '.join(notes)}.", kind="muted")
    if "best_reachable_test_auroc" in facts.run.report:
        best = facts.run.report["best_reachable_test_auroc"]
        yield paragraph(f"Best reachable test AUROC of the built-in table: {best:.4f}.")


def _exact(computed: Interval, facts: RunFacts, key: str) -> Interval:
    """Return an interval around the score that the run has of all rows."""
    report, (split, _, metric) = facts.run.report, key.partition("_")
    value = report["out_of_fold"].get(metric) if split == "val" and "out_of_fold" in report else report.get(key)
    if value is None:
        return computed
    shift = float(value) - computed.value
    return Interval(value=float(value), low=computed.low + shift, high=computed.high + shift)


def _baselines(report: Mapping[str, Any]) -> list[list[Cell]]:
    """Return the scores of simple models on the same splits, where a run has them: by name, then by split's metric."""
    baselines = report.get("baselines")
    if not isinstance(baselines, Mapping):
        return []
    rows: list[list[Cell]] = []
    for name, scores in baselines.items():
        for split in ("val", "test"):
            values: list[Cell] = [cell(scores.get(f"{split}_{metric}")) for metric in SCORES]
            if any(value is not None for value in values):
                rows.append([f"{name} on {split}", *values])
    return rows


def fold_section(facts: RunFacts) -> Iterator[str]:
    """Yield the scores of each fold of a cross-validation; any other run has none."""
    report = facts.run.report
    folds = report.get("folds")
    if not folds:
        return
    keys = [f"{split}_{name}" for split in ("val", "test") for name in SCORES if f"{split}_{name}" in folds[0]]
    counts = ("train_rows", "val_rows", "weight", "best_epoch")
    rows: list[list[Cell]] = [
        [*(fold[name] for name in ("fold", *counts)), *map(cell, map(fold.get, keys))] for fold in folds
    ]
    yield table([name.replace("_", " ") for name in ("fold", *counts, *keys)], rows)
    means = [np.mean([np.nan if fold[key] is None else fold[key] for fold in folds]) for key in keys]
    rows = [["mean", *map(cell, means)], ["standard deviation", *(cell(report["spread"].get(key)) for key in keys)]]
    yield table(["over the folds", *(key.replace("_", " ") for key in keys)], rows)
    yield paragraph(
        "Of val, each row of train is predicted by the model that has not seen it; of test, by the averaged model. "
        "What columns do is on the pages of the folds: tabstep report writes them.",
        kind="muted",
    )


def epoch_section(facts: RunFacts) -> Iterator[str]:
    history = facts.run.history
    if not history:
        return
    objective = str(facts.run.report.get("objective", "val_auroc")).partition("_")[2]
    best = float(facts.run.report.get("best_epoch", math.nan))
    metrics = [name for name in dict.fromkeys(("loss", objective)) if any(f"val_{name}" in row for row in history)]
    yield grid(drawn([(name, partial(run_pictures.history, history, name, best)) for name in metrics]))
    head = list(dict.fromkeys(key for row in history for key in row))
    rows = [[int(row[key]) if key in ("epoch", "step") else row.get(key) for key in head] for row in history]
    yield folded("All epochs" if len(rows) > 1 else "The epoch", [table(head, rows)])
