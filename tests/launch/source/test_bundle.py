from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tabstep.errors import UserError
from tabstep.launch.archives import extract
from tabstep.launch.source import bundle
from tabstep.launch.source.bundle import Bundle, build_bundle, extra_conf

ROOT = Path(__file__).resolve().parents[3]


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write a user's own source directory, under git."""
    files = {
        "train.py": "from tabstep.entry import main\nmain()\n",
        "plugin.py": "x = 1\n",
        "conf/train.yaml": "seed: 1\n",
        "conf/local/default.yaml": "# @package _global_\nseed: 3\n",
        ".gitignore": "/data/\n/conf/local/\n*.secret\n",
        "data/big.csv": "a\n" * 100_000,
        "notes.secret": "x",
        "__pycache__/plugin.cpython-311.pyc": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def contents(packed: Bundle) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(packed.data), mode="r:gz") as tar:
        found = {}
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
            found[member.name] = file.read().decode()
    return found


def test_a_job_without_a_network_installs_nothing(project: Path) -> None:
    (project / "requirements.txt").write_text("plugin==1.0\n")
    assert "plugin==1.0" in contents(build_bundle(project))["requirements.txt"]
    assert "requirements.txt" not in contents(build_bundle(project, installs=False))


def test_the_checkout_is_sent_without_what_is_not_source() -> None:
    packed = build_bundle()
    names = contents(packed)
    assert {"train.py", "conf/train.yaml", "src/tabstep/entry.py", "requirements.txt"} <= names.keys()
    assert {name.split("/")[0] for name in names} == {"train.py", "conf", "src", "requirements.txt"}
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git", "tests"))]
    assert sum(packed.files.values()) < 3 * 2**20


def test_equal_files_give_equal_bytes(project: Path) -> None:
    first = build_bundle(project)
    for path in project.rglob("*"):
        os.utime(path, (1, 1))
    (project / "train.py").chmod(0o755)
    time.sleep(0.01)
    again = build_bundle(project)
    assert again.data == first.data
    assert again.digest == first.digest
    (project / "plugin.py").write_text("x = 2\n")
    assert build_bundle(project).digest != first.digest


def test_git_decides_what_a_directory_of_the_user_sends(project: Path) -> None:
    (project / "new.py").write_text("y = 1\n")
    names = contents(build_bundle(project))
    assert {"train.py", "plugin.py", "new.py", "conf/train.yaml", ".gitignore"} <= names.keys()
    assert not names.keys() & {"data/big.csv", "notes.secret"}
    assert names["conf/local/default.yaml"].endswith("seed: 3\n"), "it is part of a run here, so of the job"
    assert names["src/tabstep/entry.py"] == (ROOT / "src/tabstep/entry.py").read_text(), "the package comes along"


def test_a_directory_without_git_leaves_out_the_usual(project: Path) -> None:
    subprocess.run(["rm", "-rf", str(project / ".git"), str(project / "data")], check=True)
    names = contents(build_bundle(project))
    assert "plugin.py" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_tags_say_what_was_sent(project: Path) -> None:
    commit = git(project, "rev-parse", "HEAD")
    (project / "conf/local/default.yaml").unlink()
    assert build_bundle(project).tags() == {"tabstep:commit": commit, "tabstep:changes": "none"}
    (project / "plugin.py").write_text("x = 2\n")
    packed = build_bundle(project)
    assert packed.changed == ("plugin.py",)
    assert len(packed.tags()["tabstep:changes"]) == 16
    (project / "new.py").write_text("y = 1\n")
    assert build_bundle(project).changed == ("new.py", "plugin.py")
    assert build_bundle(project).tags() != packed.tags()
    assert "plugin.py (changed)" in packed.listing()


def test_a_file_that_is_gone_is_a_change(project: Path) -> None:
    """Deleted, deleted in the index, and moved: the commit does not say what is sent."""
    (project / "conf/local/default.yaml").unlink()  # which no commit has
    git(project, "mv", "plugin.py", "moved.py")
    moved = build_bundle(project)
    assert (moved.changed, moved.deleted) == (("moved.py",), ("plugin.py",))
    git(project, "mv", "moved.py", "plugin.py")
    assert build_bundle(project).tags()["tabstep:changes"] == "none"
    (project / "plugin.py").unlink()
    deleted = build_bundle(project)
    assert "plugin.py" not in deleted.files
    assert (deleted.changed, deleted.deleted) == ((), ("plugin.py",))
    assert deleted.tags()["tabstep:changes"] not in ("none", moved.tags()["tabstep:changes"])
    assert "plugin.py (deleted)" in deleted.listing()
    git(project, "rm", "-q", "--cached", "plugin.py")
    assert build_bundle(project).tags() == deleted.tags()


def test_a_secret_of_this_machine_is_refused_with_a_remedy_that_helps(project: Path) -> None:
    (project / "conf/local/default.yaml").write_text("db:\n  password: hunter22\n")
    with pytest.raises(UserError) as caught:
        build_bundle(project)
    line = str(caught.value)
    assert line.startswith("launch.source_dir: conf/local/default.yaml:2 looks like a secret (password): take it out")
    assert ".gitignore" not in line, "it is sent although git ignores it"
    assert "hunter" not in line


def test_a_secret_is_refused(project: Path) -> None:
    (project / ".env").write_text("A=1\n")
    (project / "conf/data.yaml").write_text("x: 1\nkey: AKIA" + "ABCDEFGHIJKLMNOP\n")
    with pytest.raises(UserError) as caught:
        build_bundle(project)
    first, second = str(caught.value).splitlines()
    assert first == "launch.source_dir: .env looks like a file of secrets: take it out, or name it in .gitignore"
    assert second.startswith("launch.source_dir: conf/data.yaml:2 looks like an AWS access key")
    assert "ABCDEF" not in str(caught.value)


def test_the_budget_names_the_largest_files(project: Path) -> None:
    (project / "weights.bin").write_bytes(bytes(3_000_000))
    with pytest.raises(UserError, match=r"more than 2,000,000: .*the largest: weights.bin \(3,000,000\), "):
        build_bundle(project, max_bytes=2_000_000)


def test_what_would_change_the_job_is_refused(project: Path) -> None:
    (project / "setup.py").write_text("")
    with pytest.raises(UserError, match=r"setup\.py at its top"):
        build_bundle(project)
    (project / "setup.py").unlink()
    with pytest.raises(UserError, match=r"launch\.entry_point: .* has no main\.py"):
        build_bundle(project, entry_point="main.py")
    with pytest.raises(UserError, match=r"launch\.source_dir: no such directory"):
        build_bundle(project / "nowhere")
    (project / "link.py").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"link\.py is a link to /etc/hostname, outside of the directory"):
        build_bundle(project)


def test_an_installed_package_sends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    here = contents(build_bundle())
    monkeypatch.setattr(bundle, "checkout", lambda: None)
    away = contents(build_bundle())
    assert away["train.py"] == (ROOT / "train.py").read_text()
    same = {name for name in here if not name.startswith("conf/local/")}
    assert away.keys() == same
    assert build_bundle().tags().keys() == {"tabstep:source"}


def test_a_bundle_runs_where_it_is_unpacked(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(build_bundle().data), mode="r:gz") as tar:
        extract(tar, tmp_path)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "train.py", "--cfg", "job", "model=resnet"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "name: resnet" in done.stdout


def test_options_of_another_directory_come_along(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: mlp\n")
    assert extra_conf(tmp_path, "conf_extra") == {"conf_extra/model/mine.yaml": b"name: mlp\n"}
    assert "conf_extra/model/mine.yaml" in build_bundle(extra_files=extra_conf(tmp_path, "conf_extra")).files
