from __future__ import annotations

import pytest

from tabstep.decision_goal import Goal, parse_goal


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("accuracy", Goal(name="accuracy")),
        (" f1 ", Goal(name="f1")),
        ("precision>=0.9", Goal(name="precision", floor=0.9)),
        ("recall >= .8", Goal(name="recall", floor=0.8)),
        ("cost={fp: 1, fn: 20}", Goal(name="cost", fp=1.0, fn=20.0)),
        ("cost={fn:2.5,fp:1e-1}", Goal(name="cost", fp=0.1, fn=2.5)),
    ],
)
def test_forms(text: str, goal: Goal) -> None:
    assert parse_goal(text) == goal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "F1",
        "precision",
        "precision>=1.1",
        "precision>=0",
        "recall>=x",
        "cost",
        "cost={fp: 1}",
        "cost={fp: 1, fn: -1}",
    ],
)
def test_another_form_is_refused_with_the_forms_that_there_are(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"(is no goal: choose accuracy, f1|lies between 0 and 1|cost needs a positive number)"
    ):
        parse_goal(text)
