from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.sweep.test_ledger import HEADER
from tests.sweep.test_pruning import history, peer, pointer

from tabstep.errors import UserError
from tabstep.sweep.ledger import POINTER, PROGRESS, create_sweep
from tabstep.sweep.trial import attach, trial_state
from tabstep.training.stopping import StopRule


def run_of(directory: Path, reports: bool = True) -> tuple[Any, Any]:
    classifier = SimpleNamespace(epoch_listeners=[], progress=SimpleNamespace(history=[]))
    checkpointer = SimpleNamespace(stop_rule=StopRule(max_epochs=9))
    attach(directory, classifier, checkpointer, reports=reports)  # type: ignore[arg-type]
    return classifier, checkpointer


def test_a_run_that_is_no_trial_is_left_alone(tmp_path: Path) -> None:
    classifier, checkpointer = run_of(tmp_path)
    assert (classifier.epoch_listeners, checkpointer.stop_rule) == ([], StopRule(max_epochs=9))


@pytest.mark.parametrize("reports", [True, False])
def test_a_trial_reports_each_epoch_and_ends_where_it_is_told(tmp_path: Path, reports: bool) -> None:
    sweep = create_sweep(tmp_path, HEADER)
    for number in range(5):
        sweep.save(peer(number, [0.9] * 9))
    (tmp_path / "5").mkdir()
    pointer("median", 5, 5).write(tmp_path / "5")
    classifier, checkpointer = run_of(tmp_path / "5", reports)
    rows = history([0.5, 0.7, 0.6])
    reasons = []
    for row in rows:
        classifier.progress.history.append(row)
        for listener in classifier.epoch_listeners:
            listener(row)
        reasons.append(checkpointer.stop_rule.reason(classifier.progress.history, 0.0))
    assert reasons == [None, None, "pruned by median: val_auroc 0.7000 after epoch 3"]
    assert trial_state({"stop_reason": reasons[-1]}) == "pruned"
    assert (tmp_path / "5" / PROGRESS).exists() == reports
    if reports:
        assert json.loads((tmp_path / "5" / PROGRESS).read_text())["curve"] == [0.5, 0.7, 0.7]


def test_the_runs_own_rules_come_first(tmp_path: Path) -> None:
    rule = StopRule(max_epochs=2, judge=lambda rows: "pruned")
    assert rule.reason(history([0.5, 0.5]), 0.0) == "trainer.max_epochs=2 reached"
    assert rule.reason(history([0.5]), 0.0) == "pruned"
    assert rule.reason([], 0.0) is None
    assert trial_state({"stop_reason": "trainer.max_epochs=2 reached"}) == "complete"


def test_damaged_pointer(tmp_path: Path) -> None:
    (tmp_path / POINTER).write_text("{")
    with pytest.raises(UserError, match=r"trial.json: cannot be read"):
        run_of(tmp_path)
