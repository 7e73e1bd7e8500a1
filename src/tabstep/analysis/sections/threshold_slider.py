"""Every threshold with what it finds, misses and costs: a slider, a table, and the threshold of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tabstep.analysis.curves import Decisions, decisions
from tabstep.analysis.sampled_rows import row_count
from tabstep.analysis.sections.facts import MOST_ROWS, RunFacts, cuts_of, share, task_of
from tabstep.analysis.weighted_scores import indicators
from tabstep.decision_goal import Goal, parse_goal
from tabstep.page.document import (
    data_attribute,
    folded,
    paragraph,
    text,
)
from tabstep.page.table import Cell, Ranged, table

_STEPS: Final = 1_000
_STEPS_OF_MANY: Final = 100
"""Of many labels the slider is coarser: each has counts of its own in the page."""
_FEW: Final = 10
_TABLE_THRESHOLDS: Final = tuple(place / 20 for place in range(1, 20))


def threshold_section(facts: RunFacts) -> Iterator[str]:
    """Offer every threshold with what it costs, on val: test would be chosen by otherwise."""
    val = facts.predictions.get("val")
    if val is None or facts.encoder is None or task_of(facts) == "multiclass":
        return
    names = [str(name) for name in facts.encoder.classes]
    truth = indicators(val.y, task_of(facts), len(names))
    probs, names = (val.probs[:, 1:], names[1:]) if task_of(facts) == "binary" else (val.probs, names)
    chosen, shown = cuts_of(facts), range(min(len(names), MOST_ROWS))
    outputs = [
        _outcomes(
            probs[:, place],
            truth[:, place],
            chosen=chosen[min(place, len(chosen) - 1)],
            steps=_STEPS if len(shown) <= _FEW else _STEPS_OF_MANY,
        )
        for place in shown
    ]
    decision = facts.run.report.get("decision")
    yield _decision_table(decision)
    yield _slider(outputs, names, parse_goal(decision["goal"]) if isinstance(decision, Mapping) else Goal(name="cost"))
    at_some = decisions(probs[:, 0], truth[:, 0], _TABLE_THRESHOLDS)
    yield folded("As a table", [_threshold_table(at_some)] if len(outputs) == 1 else [])
    yield paragraph(
        f"A row is taken for positive above the threshold. Of val, {row_count(len(probs), val.total)}: a threshold "
        "that is chosen here is to be checked on other rows.",
        kind="muted",
    )


def _outcomes(
    probs: NDArray[np.floating], truth: NDArray[np.bool_], *, chosen: float, steps: int
) -> dict[str, list[float] | int]:
    """Return the counts of ``steps`` equal steps and at the chosen threshold itself, whose place is ``start``."""
    thresholds = sorted({chosen, *(place / steps for place in range(steps + 1))})
    cuts = decisions(probs, truth, thresholds)
    parts = {part: getattr(cuts, part).tolist() for part in ("thresholds", "tp", "fp", "fn", "tn")}
    return {**parts, "start": thresholds.index(chosen)}


def _decision_table(decision: Any) -> str:
    """Return what the run's own threshold reaches, beside 0.5; nothing where it has none, or one a label."""
    if not isinstance(decision, Mapping):
        return ""
    head = ["accuracy", "precision", "recall", "f1", "cost"]
    rows: list[list[Cell]] = []
    for where, figures in decision.items():
        if isinstance(figures, Mapping):
            bounds = figures["intervals"]
            some = [Ranged(figures[name], *bounds[name]) if name in figures else None for name in head]
            rows.append([where.replace("_", " "), *some])
    head[-1] = "cost per row"
    goal = paragraph(f"The run predicts with the threshold of val that serves {decision['goal']} best.")
    return goal + table(["threshold on", *head], rows)


def _slider(outputs: Sequence[Mapping[str, Any]], names: Sequence[str], costs: Goal) -> str:
    options = "".join(f'<option value="{place}">{text(name)}</option>' for place, name in enumerate(names))
    choice = f"<label>label <select data-part=output>{options}</select></label>" if len(outputs) > 1 else ""
    shown = "".join(
        f"<div>{words}<b data-part={part}></b></div>"
        for part, words in (
            ("tp", "found"),
            ("fp", "false alarms"),
            ("fn", "missed"),
            ("tn", "rightly not"),
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "F1"),
            ("accuracy", "accuracy"),
            ("flagged", "share taken for positive"),
            ("cost", "cost of mistakes"),
            ("cost-row", "cost per row"),
        )
    )
    return (
        f"<div hidden data-decisions={data_attribute(outputs)}><div class=slider>{choice}"
        "<label>threshold <b data-part=value></b></label>"
        f"<input type=range data-part=threshold min=0 max={len(outputs[0]['thresholds']) - 1} "
        f'value={outputs[0]["start"]} aria-label="threshold">'
        f"<label>cost of a false alarm <input type=number data-part=cost-fp value={costs.fp:.15g} min=0 step=any>"
        f"</label><label>cost of a miss <input type=number data-part=cost-fn value={costs.fn:.15g} min=0 step=any>"
        "</label>"
        f"<button type=button data-part=cheapest>cheapest</button></div><div class=facts>{shown}</div></div>"
    )


def _threshold_table(found: Decisions) -> str:
    rows: list[list[Cell]] = []
    for place, threshold in enumerate(found.thresholds):
        tp, fp, fn, tn = (int(part[place]) for part in (found.tp, found.fp, found.fn, found.tn))
        shares = (share(tp, tp + fp), share(tp, tp + fn), share(2 * tp, 2 * tp + fp + fn))
        rows.append([float(threshold), tp, fp, fn, tn, *shares, fp + fn])
    head = ["threshold", "found", "false alarms", "missed", "rightly not", "precision", "recall", "F1", "mistakes"]
    return table(head, rows)
