from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tabstep.errors import RetryError, UserError
from tabstep.system.atomic_write import write_durably
from tabstep.system.locks import exclusive
from tabstep.training.checkpoint_store import CheckpointStore, DamagedError, dump_state, load_state

STATE: dict[str, Any] = {"weights": torch.arange(12.0).reshape(3, 4), "history": [{"epoch": 1, "loss": 0.5}], "step": 3}
DATA = dump_state(STATE)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_durably(tmp_path / "a.ckpt", DATA)
    state = load_state(tmp_path / "a.ckpt")
    assert torch.equal(state["weights"], STATE["weights"])
    assert (state["history"], state["step"]) == (STATE["history"], 3)
    assert os.listdir(tmp_path) == ["a.ckpt"]


@given(position=st.integers(0, 8 * len(DATA) - 1))
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, position: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "a.ckpt"
    damaged = bytearray(DATA)
    damaged[position // 8] ^= 1 << position % 8
    path.write_bytes(damaged)
    with pytest.raises(DamagedError, match=str(path)):
        load_state(path)


@given(length=st.integers(0, len(DATA) - 1))
def test_any_truncation_is_found(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.ckpt"
    path.write_bytes(DATA[:length])
    with pytest.raises(DamagedError):
        load_state(path)


def test_a_pickle_bomb_does_not_go_off(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'gone_off'}",)

    write_durably(tmp_path / "bomb.ckpt", dump_state({"state": Bomb()}))
    with pytest.raises(DamagedError, match="holds more than tensors and values"):
        load_state(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "gone_off").exists()


def test_an_environment_that_lifts_the_protection_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_durably(tmp_path / "a.ckpt", DATA)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UserError, match="unset it"):
        load_state(tmp_path / "a.ckpt")


def test_a_damaged_newest_file_is_passed_over_by_name(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (10, 20):
        store.save_checkpoint({"step": step}, store.path("last", step))
    store.path("last", 20).write_bytes(b"torn")
    with pytest.warns(UserWarning, match=r"last-00000020\.ckpt.*is not a checkpoint"):
        found = store.newest()
    assert found is not None
    assert (found[0].name, found[1]["step"]) == ("last-00000010.ckpt", 10)


@pytest.mark.parametrize("kind", ["best", "last"])
def test_the_best_epoch_comes_along_from_another_directory(kind: str, tmp_path: Path) -> None:
    other, store = CheckpointStore(tmp_path / "other"), CheckpointStore(tmp_path / "own" / "checkpoints")
    other.save_checkpoint(STATE, other.path(kind, 10))
    store.adopt_best(other.directory, 10)
    assert load_state(store.path("best", 10))["step"] == STATE["step"]
    store.path("best", 10).write_bytes(b"its own")
    store.adopt_best(other.directory, 10)
    assert store.path("best", 10).read_bytes() == b"its own"


def test_no_best_epoch_comes_along_where_there_is_none(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save_checkpoint(STATE, store.path("last", 10))
    store.adopt_best(tmp_path, 10)
    store.adopt_best(tmp_path / "missing", 10)
    assert [path.name for path in tmp_path.iterdir()] == ["last-00000010.ckpt"]


def test_prune_keeps_the_newest_of_each_kind(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (9, 10, 100_000_000, 99_999_999):
        store.save_checkpoint({"step": step}, store.path("last", step))
        store.mark_best(step)
    store.prune()
    assert [path.name for path in store.files("last")] == ["last-100000000.ckpt", "last-99999999.ckpt"]
    assert [path.name for path in store.files("best")] == ["best-100000000.ckpt", "best-99999999.ckpt"]


def test_best_outlives_last_also_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    store = CheckpointStore(tmp_path)
    store.save_checkpoint({"step": 5}, store.path("last", 5))
    store.mark_best(5)
    store.path("last", 5).unlink()
    assert load_state(store.path("best", 5)) == {"step": 5}


def test_a_full_disk_keeps_the_old_file_and_gives_up_after_three_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save_checkpoint({"step": 1}, store.path("last", 1))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for step in (2, 3):
        with pytest.warns(UserWarning, match="disk is full"):
            store.save_checkpoint({"step": step}, store.path("last", step))
    with pytest.raises(RetryError, match="free some space"):
        store.save_checkpoint({"step": 4}, store.path("last", 4))
    assert sorted(os.listdir(tmp_path)) == ["last-00000001.ckpt"]


def test_space_that_comes_back_in_time_ends_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    real, answers = os.fsync, iter([True, True, False, False, True, True])

    def sometimes_full(descriptor: int) -> None:
        if next(answers):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sometimes_full)
    for step in (1, 2, 4, 5):
        with pytest.warns(UserWarning, match="disk is full"):
            store.save_checkpoint({"step": step}, store.path("last", step))
        if step == 2:
            store.save_checkpoint({"step": 3}, store.path("last", 3))
    assert [path.name for path in store.files("last")] == ["last-00000003.ckpt"]


def test_an_unwritable_place_is_no_silence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = CheckpointStore(tmp_path / "file" / "checkpoints")
    with pytest.raises(RetryError, match="cannot be written"):
        store.save_checkpoint({}, store.path("last", 1))


def test_clean_removes_what_a_kill_left_half_written(tmp_path: Path) -> None:
    (tmp_path / ".last-00000001.ckpt.tmp").write_bytes(b"half")
    CheckpointStore(tmp_path).clean()
    assert os.listdir(tmp_path) == []


def test_a_directory_has_one_writer_until_that_one_is_gone(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from tabstep.system.locks import exclusive\n"
    code += "with exclusive(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="another run is writing"), exclusive(tmp_path):
            pass
        other.kill()
    with exclusive(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_a_directory_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"paths\.output_dir: cannot be written"), exclusive(tmp_path / "file" / "run"):
        pass
