"""Which members of a trained model are averaged: chosen on val, where the model has weights for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tabstep.analysis.ensemble_selection import Probabilities, select
from tabstep.analysis.weighted_scores import indicators, row_losses
from tabstep.artifact.member import Member
from tabstep.artifact.predictor import weighted_mean
from tabstep.encoding.encoded_table import EncodedTable
from tabstep.log_lines import number
from tabstep.models.probabilities import member_weights
from tabstep.run.evaluation import spaced_logits
from tabstep.schema import Task

ROUNDS: Final = 50
CELLS: Final = 2**22
"""Probabilities of members that are compared at most: of a larger val, rows evenly spread over it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How often each member counts, and the log-loss of val with all of them alike and with these weights."""

    weights: tuple[int, ...]
    before: float
    after: float


def choose_members(member: Member, val: EncodedTable) -> Selection | None:
    """Fill the model's member weights by greedy selection on the log-loss of val, and return what was chosen.

    None, and all members are left alike, where the model has no such weights or no log-loss is a number.
    """
    buffer = member_weights(member.model)
    if buffer is None:
        return None
    most = max(1, CELLS // (len(buffer) * member.encoder.num_classes))
    logits, y, weight = spaced_logits(member.unpooled, val, most)
    parts = [member.spread(each) for each in logits.unbind(dim=1)]
    found = selected(parts, y.numpy(), member.encoder.task, None if weight is None else weight.numpy())
    if found is not None:
        buffer.copy_(torch.tensor(found.weights))
    return found


def selected(
    parts: list[Probabilities], y: NDArray[Any], task: Task, weight: NDArray[np.floating] | None = None
) -> Selection | None:
    """Select among the members' probabilities of val ``(n, classes)``; ``weight (n,)`` is that of each row."""
    score = _log_likelihood(y, task, parts[0].shape[1], weight)
    counts = select(parts, score, rounds=ROUNDS)
    if not counts:
        return None
    weights = tuple(counts.get(index, 0) for index in range(len(parts)))
    alike = weighted_mean(parts, [1] * len(parts))
    chosen = weighted_mean([parts[index] for index in counts], list(counts.values()))
    return Selection(weights=weights, before=-score(alike), after=-score(chosen))


def _log_likelihood(
    y: NDArray[Any], task: Task, num_classes: int, weight: NDArray[np.floating] | None
) -> Callable[[Probabilities], float]:
    truth = indicators(y, task, num_classes)
    rows = np.ones(len(y)) if weight is None else weight.astype(np.float64)

    def score(probs: Probabilities) -> float:
        with np.errstate(invalid="ignore"):  # of rows that all weigh nothing, or of none: nan, which is never better
            return -float(np.divide(rows @ row_losses(probs, truth, task), rows.sum()))

    return score


def selection_report(found: Selection | None) -> dict[str, Any]:
    """Return what a report says of a selection; nothing where there was none."""
    return {} if found is None else {"selection": asdict(found)}


def selection_line(selection: Mapping[str, Any]) -> str:
    """Say which members of a model are averaged, and what that changes on the split that they were chosen on.

    >>> selection_line({"weights": [3, 0, 1], "before": 0.512, "after": 0.505})
    'members: 2 of 3 chosen on val; val log-loss 0.5120 -> 0.5050'
    """
    weights = selection["weights"]
    chosen = sum(weight > 0 for weight in weights)
    before = math.nan if selection["before"] is None else selection["before"]  # as JSON has it
    return (
        f"members: {chosen} of {len(weights)} chosen on val; val log-loss "
        f"{number(before)} -> {number(selection['after'])}"
    )
