"""Which state a run goes on from, and which one it exports."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tabstep.errors import ProblemsError, RetryError, UserError
from tabstep.training.checkpoint_store import CheckpointStore, dump_state
from tabstep.training.fit import best_state, check_fingerprint

HISTORY = [
    {"epoch": 1, "step": 4, "val_auroc": 0.7, "val_loss": 0.5},
    {"epoch": 2, "step": 8, "val_auroc": 0.9, "val_loss": 0.4},
    {"epoch": 3, "step": 12, "val_auroc": 0.8, "val_loss": 0.3},
]


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """Holds ``best`` of the epochs 1 and 2 and ``last`` of 2 and 3."""
    found = CheckpointStore(tmp_path)
    for kind, step in [("best", 4), ("best", 8), ("last", 8), ("last", 12)]:
        found.path(kind, step).write_bytes(dump_state({"kind": kind, "step": step}))
    return found


def best(store: CheckpointStore) -> tuple[int, dict[str, Any]]:
    classifier: Any = SimpleNamespace(progress=SimpleNamespace(history=HISTORY))
    row, state = best_state(classifier, store, "val_auroc")
    return int(row["epoch"]), state


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_the_best_epoch_is_exported(store: CheckpointStore) -> None:
    assert best(store) == (2, {"kind": "best", "step": 8})


@pytest.mark.parametrize("lose", [damage, Path.unlink])
def test_the_newest_state_may_be_the_same(store: CheckpointStore, lose: Any) -> None:
    lose(store.path("best", 8))
    assert best(store) == (2, {"kind": "last", "step": 8})


def test_another_epoch_takes_the_place_of_a_damaged_one(store: CheckpointStore) -> None:
    damage(store.path("best", 8))
    store.path("last", 8).unlink()
    with pytest.warns(UserWarning, match=r"best-0+8\.ckpt: is damaged: .*, which has epoch 2, the best: epoch 3 is"):
        assert best(store) == (3, {"kind": "last", "step": 12})


def test_what_was_never_saved_is_run_again(store: CheckpointStore) -> None:
    for path in (store.path("best", 8), store.path("last", 8), store.path("last", 12)):
        path.unlink()
    with pytest.raises(RetryError, match=r"best-0+8\.ckpt: is missing: the disk was full: free some space, then the"):
        best(store)


def test_nothing_is_left(store: CheckpointStore) -> None:
    for path in [*store.files("best"), *store.files("last")]:
        damage(path)
    with pytest.raises(UserError, match=r"last-0+8\.ckpt: is damaged: .* no other epoch is left: resume=never trains"):
        best(store)


def test_differences_are_named() -> None:
    saved = {
        "data.train": "0f",
        "data.encoder": "1f",
        "seed": 1,
        "model": {"name": "mlp", "width": 8},
        "loss": {"a": 1},
    }
    now = {"data.train": "2f", "data.encoder": "3f", "seed": 2, "model": {"name": "mlp", "width": 9}, "loss": {"a": 1}}
    with pytest.raises(ProblemsError) as raised:
        check_fingerprint(saved, now, Path("a.ckpt"))
    assert raised.value.problems == (
        "resume: data.train has changed since a.ckpt was saved",
        "resume: seed was 1 in a.ckpt, now it is 2",
        "resume: model had width=8 in a.ckpt, now it has width=9",
        "resume: set that back, or start anew with resume=never or another paths.output_dir",
    )
    check_fingerprint(saved, saved, Path("a.ckpt"))


def test_values_that_a_person_knows_are_shown() -> None:
    with pytest.raises(ProblemsError, match=re.escape("resume: data.batch_size was 32 in a.ckpt, now it is 64")):
        check_fingerprint({"data.batch_size": 32}, {"data.batch_size": 64}, Path("a.ckpt"))
