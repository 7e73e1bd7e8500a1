"""What the sections of a run's page are made of, and how they write a number, a share and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tabstep.analysis.sampled_rows import Predicted
from tabstep.analysis.stored_runs import StoredRun
from tabstep.analysis.weighted_scores import Interval
from tabstep.encoding.encoder import Encoder
from tabstep.log_lines import number
from tabstep.page.document import (
    figure,
)
from tabstep.page.pictures import can_draw, styled, to_svg
from tabstep.page.table import Cell, Ranged
from tabstep.schema import Task

MOST_ROWS: Final = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFacts:
    """What a page is made of. ``analysis`` is empty and ``encoder`` None where the run has none.

    ``command`` made the run, ``predictions`` are those of val and test, ``notes`` what could not be read.
    """

    run: StoredRun
    command: str
    analysis: Mapping[str, Any]
    encoder: Encoder | None
    predictions: Mapping[str, Predicted]
    notes: Sequence[str]


def number_text(value: Any) -> str:
    return number(value) if isinstance(value, float) and not value.is_integer() else f"{value:g}"


def ranged(interval: Interval) -> Ranged:
    return Ranged(interval.value, interval.low, interval.high)


def cell(value: Any) -> Cell:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def drawn(pictures: Sequence[tuple[str, Callable[[], Any]]]) -> list[str]:
    """Draw pictures by their captions; none where matplotlib is missing."""
    if not can_draw():
        return []
    with styled():
        return [figure(to_svg(draw(), caption), caption) for caption, draw in pictures]


def task_of(facts: RunFacts) -> Task:
    assert facts.encoder is not None
    return facts.encoder.task


def last_predictions(facts: RunFacts) -> tuple[str, Predicted] | None:
    """Return the predictions of the split that is furthest from training: test where there is one."""
    return next(((split, facts.predictions[split]) for split in ("test", "val") if split in facts.predictions), None)


def cuts_of(facts: RunFacts) -> list[float]:
    """Return the thresholds that the run predicts with: one, or one a label."""
    decision = facts.run.report.get("decision")
    return list(decision["thresholds"]) if isinstance(decision, Mapping) else [0.5]


def share(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None
