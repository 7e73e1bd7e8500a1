from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tests.sweep.conftest import Runs

import tabstep
from tabstep import entry
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.sweep import runners as launchers
from tabstep.sweep.runner_interface import Job, TrialResult
from tabstep.sweep.runners import HydraRunner, ProcessRunner, environment, outcome_of, process_runner
from tabstep.system.parent_watch import is_alive

CONFIG: dict[str, Any] = {"callbacks": {"progress": "auto"}, "trainer": {"devices": 1, "accelerator": "auto"}}
COMPOSED = OmegaConf.create({"hydra": {"output_subdir": ".hydra", "overrides": {"task": ["a=1"]}}, "a": 1})


def job(tmp_path: Path, number: int = 0) -> Job:
    return Job(number, ("a=1",), tmp_path / str(number), CONFIG, COMPOSED)


def runner_of(program: str, slots: int = 1) -> ProcessRunner:
    return ProcessRunner(slots, program=(sys.executable, "-c", program))


def outcomes(runner: ProcessRunner) -> list[TrialResult]:
    found: list[TrialResult] = []
    while runner.children:
        found += runner.wait(30)
    return sorted(found, key=lambda outcome: outcome.number)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print('fine')", TrialResult(number=0)),
        (
            "import sys; print('a', file=sys.stderr); print('data.train: no', file=sys.stderr); sys.exit(2)",
            TrialResult(number=0, error="data.train: no", details="a\ndata.train: no\n"),
        ),
        ("import os; os._exit(1)", TrialResult(number=0, error="its process ended with an error and said nothing")),
        (
            "import sys; print('disk full', file=sys.stderr); sys.exit(75)",
            TrialResult(number=0, error="disk full", lost=True),
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            TrialResult(number=0, error="its process was killed by SIGKILL, perhaps for want of memory", lost=True),
        ),
    ],
)
def test_how_a_process_ends(tmp_path: Path, program: str, expected: TrialResult) -> None:
    runner = runner_of(program)
    runner.start(job(tmp_path))
    assert outcomes(runner) == [expected]
    assert (tmp_path / "0" / ".hydra" / "overrides.yaml").read_text() == "- a=1\n"


def test_process_that_was_stopped_stops_the_sweep(tmp_path: Path) -> None:
    runner = runner_of("import sys; sys.exit(143)")
    runner.start(job(tmp_path))
    (outcome,) = outcomes(runner)
    assert isinstance(outcome.stopped, StoppedError)
    assert outcome.stopped.exit_code == 143


def test_output_is_kept_and_goes_on(tmp_path: Path) -> None:
    runner = runner_of("import sys; print(open(sys.argv[1]).read()); print(sys.argv[2])")
    for _ in range(2):
        runner.start(job(tmp_path))
        outcomes(runner)
    said = (tmp_path / "0" / "output.log").read_text()
    assert said.count("progress: lines") == 2
    assert said.splitlines()[-1] == str(os.getpid())


def test_processes_run_side_by_side_and_are_stopped_together(tmp_path: Path) -> None:
    program = (
        "import sys, time, signal; signal.signal(15, lambda *_: sys.exit(143)); print('up', flush=True); time.sleep(60)"
    )
    runner = runner_of(program, slots=2)
    for number in range(2):
        runner.start(job(tmp_path, number))
    ends = time.monotonic() + 30
    while time.monotonic() < ends and not all(
        (tmp_path / str(n) / "output.log").read_text() == "up\n" for n in range(2)
    ):
        time.sleep(0.05)
    assert runner.wait(0.01) == []
    assert {child.slot for child in runner.children.values()} == {0, 1}
    pids = [child.process.pid for child in runner.children.values()]
    runner.stop()
    assert not any(map(is_alive, pids))


PARENT = """
import os, sys
from pathlib import Path
from tests.sweep.test_runners import job, ProcessRunner
code = "import sys, time; from tabstep.system.parent_watch import end_with; end_with(int(sys.argv[2])); time.sleep(60)"
program = (sys.executable, "-c", code)
runner = ProcessRunner(1, program=program)
runner.start(job(Path(sys.argv[1])))
print(runner.children[0].process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_trials_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    paths = [str(Path(tabstep.__file__).parents[1]), str(Path(__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    ends = time.monotonic() + 20
    while is_alive(int(done.stdout)) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not is_alive(int(done.stdout))


def test_environment_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(launchers, "visible_gpus", lambda: ["4", "6"])
    assert environment(1, 0, CONFIG).get("OMP_NUM_THREADS") is None
    assert environment(4, 0, CONFIG)["OMP_NUM_THREADS"] == "2"
    assert [environment(4, slot, CONFIG)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["4", "6", "4", "6"]
    cpu = {**CONFIG, "trainer": {"devices": 1, "accelerator": "cpu"}}
    both = {**CONFIG, "trainer": {"devices": 2, "accelerator": "gpu"}}
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    assert environment(4, 0, cpu).get("CUDA_VISIBLE_DEVICES") == before
    assert environment(1, 0, both).get("CUDA_VISIBLE_DEVICES") == before
    assert environment(1, 0, CONFIG)["PYTHONPATH"].startswith(str(Path(tabstep.__file__).parents[1]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 3")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"hydra.launcher.n_jobs: expected"):
        process_runner(0)


def test_what_hydras_launchers_return() -> None:
    from hydra.core.utils import JobReturn, JobStatus

    def returned(value: Any, status: JobStatus = JobStatus.FAILED) -> TrialResult:
        found = JobReturn(status=status)
        found.return_value = value
        return outcome_of(3, found)

    assert returned(0.5, JobStatus.COMPLETED) == TrialResult(number=3, value=0.5)
    assert returned(UserError("no")) == TrialResult(number=3, error="no")
    assert returned(RetryError("full")) == TrialResult(number=3, error="full", lost=True)
    stop = StoppedError("saved", 15)
    assert returned(stop) == TrialResult(number=3, stopped=stop)
    fault = returned(KeyError("x"))
    assert (fault.error, "Traceback" in fault.details or "KeyError" in fault.details) == ("KeyError: 'x'", True)
    assert replace(returned(None, JobStatus.UNKNOWN), error=None) == TrialResult(number=3, lost=True)


def test_batches_have_consecutive_numbers(tmp_path: Path) -> None:
    launched: list[tuple[int, int]] = []

    class Fake:
        def launch(self, overrides: Any, initial_job_idx: int) -> Any:
            from hydra.core.utils import JobReturn, JobStatus

            launched.append((initial_job_idx, len(overrides)))
            return [JobReturn(status=JobStatus.COMPLETED) for _ in overrides]

    runner = HydraRunner(Fake(), 9)  # type: ignore[arg-type]
    for number in (1, 2, 5, 6, 7, 9):
        runner.start(job(tmp_path, number))
    assert [outcome.number for outcome in runner.wait(1)] == [1, 2, 5, 6, 7, 9]
    assert launched == [(1, 2), (5, 3), (9, 1)]


def test_launcher_for_hydras_own_sweeper(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        sys.executable, "-c",
        "import json, sys, yaml, pathlib; c = yaml.safe_load(open(sys.argv[1])); "
        "pathlib.Path(sys.argv[1]).with_name('report.json').write_text(json.dumps({'val_auroc': c['seed']}))",
    )  # fmt: skip
    monkeypatch.setattr(launchers, "PROGRAM", program)
    argv = ["-m", "hydra/sweeper=basic", "hydra/launcher=process", "hydra.sweep.dir=s", "seed=4,5,6"]
    assert entry.main(argv) == 0
    assert [Path(f"s/{n}/report.json").read_text() for n in range(3)] == [f'{{"val_auroc": {n}}}' for n in (4, 5, 6)]
    assert runs.settings == []


def test_processes_of_a_sweep(runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        sys.executable, "-c",
        "import json, sys, yaml, pathlib; c = yaml.safe_load(open(sys.argv[1])); assert c['seed'] != 5, 'odd'; "
        "pathlib.Path(sys.argv[1]).with_name('report.json').write_text(json.dumps({'val_auroc': 1 / c['seed']}))",
    )  # fmt: skip
    monkeypatch.setattr(launchers, "PROGRAM", program)
    argv = ["-m", "hydra/launcher=process", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=s", "seed=4,5,6"]
    assert entry.main(argv) == 0
    said = capsys.readouterr().out
    assert "trial 1: failed: AssertionError: odd" in said
    assert "best trial:  " in said
    assert Path("s/leaderboard.csv").read_text().splitlines()[1].startswith("1,0,complete,0.25")


@pytest.mark.parametrize("devices", ["2", "auto"])
def test_several_devices_choose_processes(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], devices: str
) -> None:
    monkeypatch.setattr(launchers, "PROGRAM", (sys.executable, "-c", "import sys; sys.exit(2)"))
    argv = ["-m", "hydra.sweep.dir=s", "seed=4,5", f"trainer.devices=1,{devices}", "trainer.accelerator=gpu"]
    assert entry.main(argv) == 2
    assert "hydra/launcher=process: chosen, for a trial uses several devices" in capsys.readouterr().out
    assert runs.settings == []
