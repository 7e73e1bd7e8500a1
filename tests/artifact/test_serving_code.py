from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tabstep.artifact.serving_code import REQUIRED, needed_modules, write_code


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_the_code_has_the_handler_and_the_models_that_are_served(tmp_path: Path) -> None:
    write_code(tmp_path / "code", ["resnet"])
    found = files(tmp_path / "code")
    assert {"inference.py", "requirements.txt", "tabstep/models/resnet.py", "tabstep/registry.py"} <= found
    assert "tabstep/models/mlp.py" not in found
    assert not any(name.startswith(("tabstep/launch/", "tabstep/run/", "tabstep/sweep/")) for name in found)
    assert (tmp_path / "code" / "inference.py").read_bytes() == needed_modules("tabstep.serving.handler")[
        "tabstep.serving.handler"
    ].read_bytes()
    lines = (tmp_path / "code" / "requirements.txt").read_text().splitlines()
    assert lines == list(REQUIRED)
    assert not any(line.startswith(("torch", "numpy")) for line in lines)


def test_its_registry_finds_what_is_there(tmp_path: Path) -> None:
    write_code(tmp_path / "code", ["resnet"])
    program = "import tabstep.registry as r; print(r.__file__, dict(r.MODELS.ours()))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "code", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path))
    assert done.stdout.strip().endswith("{'resnet': 'tabstep.models.resnet:ResNet'}")


def test_a_model_of_a_distribution_is_a_requirement_and_a_loose_one_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "installed_net.py").write_text("class Net: ...\n")
    info = tmp_path / "installed_net-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed-net\nVersion: 1.5\n")
    (info / "top_level.txt").write_text("installed_net\n")
    (tmp_path / "loose_net" / "deep").mkdir(parents=True)
    for name in ("loose_net/__init__.py", "loose_net/deep/net.py", "loose_file.py"):
        (tmp_path / name).write_text("class Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    write_code(tmp_path / "code", ["installed_net:Net", "loose_net.deep.net:Net", "loose_file:Net"])
    assert {"loose_net/__init__.py", "loose_net/deep/net.py", "loose_file.py"} <= files(tmp_path / "code")
    assert not (tmp_path / "code" / "installed_net.py").exists()
    assert "installed-net==1.5" in (tmp_path / "code" / "requirements.txt").read_text().splitlines()
