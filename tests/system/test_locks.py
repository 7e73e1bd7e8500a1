from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabstep.errors import UserError
from tabstep.system.locks import LOCK, check_free, discard_unused, exclusive

HOLDER = f"""
import fcntl, os, sys
descriptor = os.open(sys.argv[1] + "/{LOCK}", os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    line = rf"paths\.output_dir: another run is writing to {tmp_path}: choose another one"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=line):
            check_free(tmp_path)
        with pytest.raises(UserError, match=line), exclusive(tmp_path):
            pass
        other.kill()
    with exclusive(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


def test_what_a_run_has_put_nothing_into_is_removed(tmp_path: Path) -> None:
    def made(*files: str) -> Path:
        place = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        for name in (LOCK, ".hydra/config.yaml", f"checkpoints/{LOCK}", *files):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text("")
        return place

    given = made()
    discard_unused(given, [".hydra"], keep=True)
    assert list(given.iterdir()) == []
    empty, kept = made(), [made("report.json"), made("checkpoints/last.ckpt"), made("a/b/c")]
    for place in (empty, *kept):
        discard_unused(place, [".hydra"])
    assert not empty.exists()
    assert all((place / ".hydra" / "config.yaml").exists() for place in kept)
    held = made()
    with exclusive(held):
        discard_unused(held, [".hydra"])
    assert held.exists()
    discard_unused(tmp_path / "nowhere", [])


def test_a_look_makes_nothing(tmp_path: Path) -> None:
    check_free(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_the_directory_is_made_and_the_key_is_named(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
    (tmp_path / "file").write_text("x")
    key = "paths.checkpoint_dir"
    with pytest.raises(UserError, match=r"paths\.checkpoint_dir: cannot be written"), exclusive(tmp_path / "file", key):
        pass


@pytest.mark.parametrize(("number", "passes"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if passes:
        with exclusive(tmp_path):
            pass
    else:
        with pytest.raises(OSError, match="error"), exclusive(tmp_path):
            pass
