from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tabstep

SOURCE = Path(tabstep.__file__).resolve().parents[1]
LIGHT = """
import sys
import hydra, hydra.core.plugins, hydra.core.config_store, hydra.plugins.launcher, hydra.plugins.sweeper
before = set(sys.modules)
import hydra_plugins.tabstep_sweeper
print(sorted(set(sys.modules) - before))
"""


def python(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_plugin_imports_nothing_that_hydra_has_not() -> None:
    assert python(LIGHT) == "['hydra_plugins', 'hydra_plugins.tabstep_sweeper']"


def test_hydra_finds_it_beside_other_plugins(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "other.py").write_text("from hydra.plugins.sweeper import Sweeper\n")
    program = """
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
import hydra_plugins
names = sorted(each.__name__ for kind in (Launcher, Sweeper) for each in Plugins.instance().discover(kind))
print(names, list(hydra_plugins.__path__))
"""
    found = python(program, PYTHONPATH=os.pathsep.join([str(SOURCE), str(tmp_path)]))
    assert "'TabstepSweeper'" in found
    assert "'ProcessLauncher'" in found
    for directory in (SOURCE, tmp_path):
        assert str(directory / "hydra_plugins") in found


def test_plain_grid_needs_no_optuna(tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["optuna"] = None
sys.argv = ["train.py"]
import types
run = types.ModuleType("tabstep.run.run")
run.run = lambda settings, config, shown: settings.seed / 10
sys.modules["tabstep.run.run"] = run
from tabstep.entry import main
assert main(["-m", "seed=1,2", "hydra.sweep.dir={tmp_path}/s"]) == 0
assert main(["-m", "hparams_search=optuna", "hydra.sweep.dir={tmp_path}/t"]) == 2
print([name for name in ("torch", "lightning", "optuna") if sys.modules.get(name)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "needs the package optuna: pip install 'tabstep[sweep]'" in done.stderr


@pytest.mark.parametrize("word", ["from __future__ import annotations", "import tabstep\n", "import torch"])
def test_plugin_has_nothing_that_would_break_hydra(word: str) -> None:
    assert word not in (SOURCE / "hydra_plugins" / "tabstep_sweeper.py").read_text()
    assert not (SOURCE / "hydra_plugins" / "__init__.py").exists()
