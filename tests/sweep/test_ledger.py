from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tabstep.errors import RetryError, UserError
from tabstep.sweep import ledger
from tabstep.sweep.ledger import Header, Trial, create_sweep, locked, read_sweep

HEADER = Header(
    objectives=["val_auroc"],
    directions=["maximize"],
    space={"seed": "choice(1,2)"},
    sampler="all",
    pruner="none",
    seed=1,
    study="tabstep-0",
    base={"model.name": "mlp", "schema.label": None},
)
TRIAL = Trial(number=0, state="running", params={"seed": "1"}, overrides=["seed=1"], directory="0")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = create_sweep(tmp_path, HEADER)
    written.save(TRIAL)
    done = replace(TRIAL, state="complete", values=[0.9], curve=[None, 0.9], scores={"val_f1": None}, memory={"a": "1"})
    written.save(done)
    written.save(replace(TRIAL, number=1, directory="x/1"))
    found = read_sweep(tmp_path)
    assert found.header == HEADER
    assert found.trials == [done, replace(TRIAL, number=1, directory="x/1")]
    assert found.path(found.trials[1]) == tmp_path / "x" / "1"
    assert [trial.finished for trial in found.trials] == [True, False]


def test_mistakes_of_a_reader(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no sweep"):
        read_sweep(tmp_path)
    written = create_sweep(tmp_path, replace(HEADER, format=99))
    with pytest.raises(UserError, match="has format 99"):
        read_sweep(tmp_path)
    written = create_sweep(tmp_path, HEADER)
    written.save(TRIAL)
    written.save(replace(TRIAL, number=1))
    (tmp_path / "trials" / "000000.json").unlink()
    with pytest.raises(UserError, match="the file of a trial is missing"):
        read_sweep(tmp_path)
    (tmp_path / "trials" / "000000.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_sweep(tmp_path)


def test_killed_in_a_write_the_old_state_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = create_sweep(tmp_path, HEADER)
    written.save(TRIAL)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        written.save(replace(TRIAL, state="complete", values=[1.0]))
    assert read_sweep(tmp_path).trials == [TRIAL]


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert (tmp_path / ledger.LOCK).read_text() == str(os.getpid())
        with pytest.raises(UserError, match=f"another sweep .process {os.getpid()}. is running"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


HOLD = """
import os, sys, subprocess
from pathlib import Path
from tabstep.sweep.ledger import locked
with locked(Path(sys.argv[1])) as descriptor:
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({sys.argv[2]})"], pass_fds=[descriptor])
    os._exit(9)
"""


@pytest.mark.parametrize("seconds", [0.7, 30])
def test_trials_of_a_killed_sweep_are_waited_for(tmp_path: Path, seconds: float) -> None:
    source = str(Path(ledger.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", HOLD, str(tmp_path), str(seconds)], env=environment, check=False)
    began = time.monotonic()
    if seconds > 10:
        with pytest.raises(RetryError, match="still running"), locked(tmp_path, seconds=0.3):
            pass
        assert time.monotonic() - began < 10
    else:
        with locked(tmp_path, seconds=20):
            assert time.monotonic() - began > 0.1


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unwritable = locked(tmp_path / "file" / "s")
    with pytest.raises(UserError, match=r"^hydra.sweep.dir: cannot write to .*: Not a directory$"), unwritable:
        pass


def test_files_are_plain_json(tmp_path: Path) -> None:
    create_sweep(tmp_path, HEADER).save(TRIAL)
    assert json.loads((tmp_path / "sweep.json").read_text())["space"] == {"seed": "choice(1,2)"}
    assert json.loads((tmp_path / "trials" / "000000.json").read_text())["state"] == "running"
