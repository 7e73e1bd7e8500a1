"""Importance and effect of the columns, and the slices and rows where the model is worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from tabstep.analysis import run_pictures
from tabstep.analysis.explanation import Explanation
from tabstep.analysis.run_pictures import MOST_CLASSES
from tabstep.analysis.sections.facts import MOST_ROWS, RunFacts, drawn, ranged, task_of
from tabstep.analysis.slices import Slice
from tabstep.log_lines import number
from tabstep.page.document import folded, grid, paragraph
from tabstep.page.table import Cell, table


def column_section(facts: RunFacts) -> Iterator[str]:
    if "explanation" not in facts.analysis:
        return
    explanation = Explanation.from_dict(facts.analysis["explanation"])
    shown = list(range(len(explanation.classes)))[-MOST_CLASSES:]
    # the other class of two mirrors it
    shown = [1] if facts.encoder is not None and task_of(facts) == "binary" else shown
    pictures: list[tuple[str, Callable[[], Any]]] = []
    if explanation.importances:
        spread = "Permutation importance with the spread of the permutations"
        pictures.append((spread, lambda: run_pictures.importance(explanation.importances, explanation.metric)))
    pictures += [
        (
            f"Partial dependence on {each.column}",
            partial(run_pictures.dependence, each, explanation.classes, shown),
        )
        for each in explanation.dependences
        if each.values
    ]
    yield grid(drawn(pictures))
    rows: list[list[Cell]] = [
        [each.column, each.mean, each.std, explanation.sizes.get(each.column)]
        for each in explanation.importances[:MOST_ROWS]
    ]
    if explanation.no_importance:
        yield paragraph(f"Importance is left out: {explanation.no_importance}.", kind="warn")
    head = ["column", f"fall of {explanation.metric.replace('_', ' ')}", "spread", "mean absolute attribution"]
    if rows:
        yield folded(f"Importance of {len(explanation.importances)} columns", [table(head, rows)])
    yield paragraph(
        f"Of val, {explanation.looked_at}. A column that another one stands in for looks less important than it is. "
        "Attributions are integrated gradients of the log-odds.",
        kind="muted",
    )
    if explanation.left_out:
        yield paragraph(f"{len(explanation.left_out):,} columns were left out: the time was over.", kind="warn")


def slice_section(facts: RunFacts) -> Iterator[str]:
    slices = facts.analysis.get("slices")
    if not slices or not slices["worst"]:
        return
    rows: list[list[Cell]] = [
        [part.column, part.value, part.rows, ranged(part.loss), ranged(part.accuracy)]
        for part in map(Slice.from_dict, slices["worst"])
    ]
    yield table(["column", "value", "rows", "log-loss", "accuracy"], rows)
    yield paragraph(
        f"Of val, {slices['looked_at']}, whose log-loss is {number(slices['loss'])} and accuracy "
        f"{number(slices['accuracy'])}: the parts by category and by fifths of numbers whose loss is most surely above "
        f"it. Intervals of 95 %; among many parts some are bad by chance.{_unweighted(facts)}",
        kind="muted",
    )


def _unweighted(facts: RunFacts) -> str:
    """Return what is to be said where rows have weights: slices and worst rows tell of rows as they are."""
    weight = None if facts.encoder is None else facts.encoder.schema.weight
    return "" if weight is None else f" Each row counts once here, whatever its {weight!r}."


def worst_row_section(facts: RunFacts) -> Iterator[str]:
    rows: list[list[Cell]] = [
        [
            row["row"],
            ", ".join(row["labels"]),
            row["explained"],
            row["probability"],
            row["loss"],
            "; ".join(_reason(reason) for reason in row["reasons"]),
        ]
        for row in facts.analysis.get("worst_rows") or []
    ]
    yield table(["row", "label", "explained", "probability", "log-loss", "why: shares of the log-odds"], rows)


def _reason(reason: Mapping[str, Any]) -> str:
    value = "missing" if reason["value"] is None else str(reason["value"])
    return f"{reason['column']} = {value}: {reason['attribution']:+.2f}"
