from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tabstep.system import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit of ``a``, ``b`` and ``sub/ö``; then ``a`` is changed, ``b`` is deleted and ``new`` is not added."""
    (tmp_path / "sub").mkdir()
    for name in ("a", "b", "sub/ö"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("ignored\n")
    run(tmp_path, "init", "--quiet")
    run(tmp_path, "add", ".")
    run(tmp_path, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--no-gpg-sign", "-m", "first")
    (tmp_path / "a").write_text("y")
    (tmp_path / "b").unlink()
    for name in ("new", "ignored"):
        (tmp_path / name).write_text("x")
    return tmp_path


def run(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_files_are_those_that_git_knows_or_would_take_in(repository: Path) -> None:
    assert sorted(git.files(repository)) == [".gitignore", "a", "b", "new", "sub/ö"]


def test_the_state_names_what_differs(repository: Path) -> None:
    found = git.state(repository, ["a", "new", "sub/ö"])
    assert found == git.State(commit=run(repository, "rev-parse", "HEAD"), changed=("a", "new"), deleted=("b",))


def test_a_directory_below_the_root_is_seen_by_itself(repository: Path) -> None:
    assert git.files(repository / "sub") == ["ö"]
    assert git.state(repository / "sub", ["ö"]).changed == ()


def test_there_is_nothing_to_say_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.files(tmp_path) == []
    assert git.state(tmp_path, ["a"]) == git.State()
    monkeypatch.setenv("PATH", "")
    assert git.state(tmp_path, ["a"]) == git.State()
