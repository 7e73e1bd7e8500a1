from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tabstep.errors import RetryError, UserError
from tabstep.system.cache import cached_json, cached_text, publish

BUILDER = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from tabstep.system.cache import cached_text
    root, start, value = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    def make():
        (root / ("started-" + value)).touch()
        time.sleep(float(start))
        return value
    print(cached_text(root / "cache", "key", make), end="")
""")


def builder(root: Path, seconds: float, value: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(root), str(seconds), value]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


@pytest.mark.parametrize("text", ["", "plain", "line\nline\r\n", "🦊\u2028"])
def test_the_second_call_reads_the_file(text: str, tmp_path: Path) -> None:
    assert cached_text(tmp_path / "new" / "cache", "key", lambda: text) == text
    assert cached_text(tmp_path / "new" / "cache", "key", lambda: pytest.fail("made twice")) == text
    assert cached_text(tmp_path / "new" / "cache", "other", lambda: "x") == "x"


def test_json(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "ä"]}
    assert cached_json(tmp_path, "key", lambda: value) == value
    assert cached_json(tmp_path, "key", lambda: pytest.fail("made twice")) == value


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "delete", "not utf-8"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path) -> None:
    cached_text(tmp_path, "key", lambda: "first" * 100)
    path = tmp_path / "key" / "text"
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "flip":
        data[200] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes({"truncate": bytes(data[:-1]), "empty": b"", "not utf-8": b"\xff" * 70}[damage])
    assert cached_text(tmp_path, "key", lambda: "second") == "second"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".key.lock", "key"]


def test_an_error_while_building_leaves_nothing(tmp_path: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "half").touch()
        raise UserError("the label is null")

    with pytest.raises(UserError, match="the label is null"):
        publish(tmp_path / "key", build=build, load=os.listdir)
    assert [entry.name for entry in tmp_path.iterdir()] == [".key.lock"]


def test_killed_while_building_then_built_again(tmp_path: Path) -> None:
    first = builder(tmp_path, 60, "killed")
    wait_for(tmp_path / "started-killed")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (tmp_path / "cache" / "key").exists()
    assert cached_text(tmp_path / "cache", "key", lambda: "again") == "again"
    assert sorted(entry.name for entry in (tmp_path / "cache").iterdir()) == [".key.lock", "key"]


def test_of_two_builders_the_second_waits_and_takes_what_the_first_has_built(tmp_path: Path) -> None:
    first = builder(tmp_path, 1, "first")
    wait_for(tmp_path / "started-first")
    second = builder(tmp_path, 0, "second")
    assert (first.communicate()[0], second.communicate()[0]) == ("first", "first")
    assert not (tmp_path / "started-second").exists()


def test_without_locks_the_rename_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.setattr("fcntl.flock", unsupported)
    barrier = threading.Barrier(2)
    found: list[str] = []

    def make(value: str) -> str:
        barrier.wait(timeout=10)
        return value

    def call(value: str) -> None:
        found.append(cached_text(tmp_path, "key", lambda: make(value)))

    threads = [threading.Thread(target=call, args=(value,)) for value in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".key.lock", "key"]


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOSPC, RetryError, "free some space"),
        (errno.EDQUOT, RetryError, "free some space"),
        (errno.EROFS, UserError, "set paths.cache_dir to a directory that can be written"),
        (errno.EACCES, UserError, "set paths.cache_dir to a directory that can be written"),
    ],
)
def test_a_disk_that_cannot_be_written(
    number: int, kind: type[Exception], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    cached_text(tmp_path, "old", lambda: "kept")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(kind, match=rf"^paths.cache_dir: cannot write '.*': {os.strerror(number)}: {remedy}"):
        cached_text(tmp_path, "key", lambda: "text")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".key.lock", ".old.lock", "old"]
    assert cached_text(tmp_path, "old", lambda: pytest.fail("made twice")) == "kept"


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match=r"^paths.cache_dir: cannot write "):
        cached_text(tmp_path / "cache", "key", lambda: "text")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    cached_text(tmp_path, "key", lambda: "text")
    tmp_path.chmod(0o500)
    try:
        assert cached_text(tmp_path, "key", lambda: pytest.fail("made twice")) == "text"
        with pytest.raises(UserError, match=r"^paths.cache_dir: cannot write"):
            cached_text(tmp_path, "other", lambda: "text")
    finally:
        tmp_path.chmod(0o700)
