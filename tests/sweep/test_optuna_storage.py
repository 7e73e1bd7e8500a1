from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.sweep.test_ledger import HEADER, TRIAL

from tabstep.errors import UserError
from tabstep.sweep.ledger import Trial
from tabstep.sweep.optuna_storage import JOURNAL, Mirror
from tabstep.sweep.space import parse_space

SPACE = parse_space(["lr=tag(log,interval(1e-4,1e-1))", "model=mlp,resnet", "depth=range(1,5)"]).dimensions
RUNNING = replace(TRIAL, params={"lr": "0.00123", "model": "resnet", "depth": "3"}, memory={"cma:generation": 2})
DONE = replace(RUNNING, state="complete", values=[0.875], curve=[None, 0.5, 0.875])
FAILED = replace(RUNNING, number=1, state="failed", error="no")
PRUNED = replace(DONE, number=2, state="pruned")
TRIALS: list[Trial] = [DONE, FAILED, PRUNED, replace(RUNNING, number=3)]


def study(tmp_path: Path) -> Any:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / JOURNAL)))
    return optuna.load_study(study_name=HEADER.study, storage=storage)


def mirror(tmp_path: Path, trials: list[Trial], storage: str | None = None) -> Mirror:
    return Mirror(tmp_path, storage, HEADER, SPACE, trials)


def check(found: Any) -> None:
    first, failed, pruned, running = found.trials
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "FAIL", "PRUNED", "RUNNING"]
    assert first.params == {"lr": 0.00123, "model": "resnet", "depth": 3}
    assert (first.value, first.intermediate_values[3], first.user_attrs["directory"]) == (0.875, 0.875, "0")
    assert first.system_attrs["cma:generation"] == 2
    assert (failed.value, failed.user_attrs["error"]) == (None, "no")
    assert pruned.value == 0.875
    assert running.params == first.params
    assert found.best_trial.number == 0


def test_study_follows_the_sweep(tmp_path: Path) -> None:
    follow = mirror(tmp_path, [])
    for trial in TRIALS:
        follow(replace(trial, state="running", values=[], curve=[], error=""))
        follow(trial)
    check(study(tmp_path))
    lines = (tmp_path / JOURNAL).read_text().splitlines()
    mirror(tmp_path, TRIALS)
    assert (tmp_path / JOURNAL).read_text().splitlines()[: len(lines)] == lines
    assert len((tmp_path / JOURNAL).read_text().splitlines()) <= len(lines) + 1  # the study was opened again
    check(study(tmp_path))


@pytest.mark.parametrize("there", [0, 1, 3])
def test_what_a_kill_left_out_is_added(tmp_path: Path, there: int) -> None:
    mirror(tmp_path, [replace(trial, state="running", values=[], curve=[], error="") for trial in TRIALS[:there]])
    mirror(tmp_path, TRIALS)
    check(study(tmp_path))


def test_half_a_line_and_a_left_lock_are_repaired(tmp_path: Path) -> None:
    mirror(tmp_path, TRIALS[:2])
    with open(tmp_path / JOURNAL, "ab") as file:
        file.write(b'{"op_code": 4, "wor')
    os.symlink(tmp_path / JOURNAL, tmp_path / f"{JOURNAL}.lock")
    mirror(tmp_path, TRIALS)
    check(study(tmp_path))


def test_damaged_journal_is_set_aside_and_made_anew(tmp_path: Path) -> None:
    mirror(tmp_path, TRIALS)
    (tmp_path / JOURNAL).write_bytes(b"\x00\x01 nonsense\n{}\n")
    mirror(tmp_path, TRIALS)
    check(study(tmp_path))
    assert list(tmp_path.glob("*.damaged"))


def test_storage_by_url(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sweeps.db"
    mirror(tmp_path, TRIALS[:2], url)
    mirror(tmp_path, TRIALS, url)
    check(optuna.load_study(study_name=HEADER.study, storage=url))
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize("url", ["sweeps.db", "nosuch://x/y", "sqlite:////no/such/directory/x.db"])
def test_storage_that_cannot_be_opened(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"^hydra.sweeper.storage: ") as error:
        mirror(tmp_path, [], url)
    assert "\n" not in str(error.value)
