"""A launcher of another package gets the configuration and the command line; its status is the command's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tabstep import entry
from tabstep.errors import UserError
from tabstep.launch.foreign_launcher import launch_by
from tabstep.registry import PluginSettings

SOURCE = """
import json, pathlib

def batch(config, overrides, *, queue: str, status: int = 0):
    told = {"queue": queue, "seed": config["seed"], "overrides": list(overrides)}
    pathlib.Path("told.json").write_text(json.dumps(told))
    return status

def odd(config, overrides):
    return None

def broken(config, overrides):
    raise RuntimeError("no\\nqueue")
"""


@pytest.fixture(autouse=True)
def _launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logging: None) -> None:
    (tmp_path / "my_batch.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_batch", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("status", "code"), [(0, 0), (7, 7)])
def test_it_is_given_the_run_and_its_status_is_the_commands(status: int, code: int, tmp_path: Path) -> None:
    own = ["launch.name=my_batch:batch", "+launch.queue=gpu", f"+launch.status={status}"]
    assert entry.main([*own, "seed=7", "data.path=elsewhere", "schema.label=y", "paths.output_dir=out"]) == code
    told = json.loads((tmp_path / "told.json").read_text())
    overrides = ["seed=7", "data.path=elsewhere", "schema.label=y", "paths.output_dir=out"]
    assert told == {"queue": "gpu", "seed": 7, "overrides": overrides}
    assert (tmp_path / "out").exists() == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["launch.name=my_batch:batch"], "launch.queue: is missing: my_batch:batch needs it"),
        (["launch.name=my_batch:odd", "+launch.quue=a"], "launch.quue: my_batch:odd has no such key"),
        (["launch.name=my_batch:bach"], "launch.name: my_batch:bach: module 'my_batch' has no attribute 'bach'"),
        (["launch.name=no_batch:batch"], "launch.name: no_batch:batch: no module is called 'no_batch': install it"),
        (["launch.name=lcoal"], "launch.name: expected one of local, sagemaker, dry_run, rehearsal, ray, got 'lcoal'"),
        (["launch.name=my_batch:odd", "-m", "seed=1,2"], "launch.name: my_batch:odd takes one run at a time"),
    ],
)
def test_a_mistake_is_a_line_before_a_directory_is_made(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert entry.main([*arguments, "paths.output_dir=out"]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "line"), [("odd", "returned None, an exit status is due"), ("broken", "RuntimeError: no queue$")]
)
def test_what_it_does_wrong_is_one_line(name: str, line: str) -> None:
    with pytest.raises(UserError, match=rf"^launch: my_batch:{name}:? {line}"):
        launch_by(PluginSettings(name=f"my_batch:{name}"), {}, [])
