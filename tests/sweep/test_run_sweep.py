from __future__ import annotations

import csv
import fcntl
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from tests.sweep.conftest import Runs, score

from tabstep import entry
from tabstep.config.compose import composed
from tabstep.config.settings import Settings
from tabstep.errors import RetryError, StoppedError, UserError
from tabstep.sweep.ledger import Ledger

Sweep = Callable[..., int]
Read = Callable[[], Ledger]
SEARCH = ("hparams_search=optuna", "hydra.sweeper.n_trials=3", "trainer=cpu")


def rows(file: str = "s/leaderboard.csv") -> list[dict[str, str]]:
    with open(file, newline="") as text:
        return list(csv.DictReader(text))


def test_grid_ends_in_a_leaderboard(
    sweep: Sweep, ledger: Read, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabstep.sweep.html_report.can_draw", lambda: True)
    assert sweep("optimizer.lr=1e-3,3e-3", "model=mlp,resnet", "seed=7") == 0
    found = ledger()
    assert [trial.overrides for trial in found.trials] == [
        ["optimizer.lr=0.001", "model=mlp", "seed=7"],
        ["optimizer.lr=0.001", "model=resnet", "seed=7"],
        ["optimizer.lr=0.003", "model=mlp", "seed=7"],
        ["optimizer.lr=0.003", "model=resnet", "seed=7"],
    ]
    assert [trial.state for trial in found.trials] == ["complete"] * 4
    board = rows()
    assert [row["rank"] for row in board] == ["1", "2", "3", "4"]
    assert [float(row["optimizer.lr"]) for row in board] == [3e-3, 3e-3, 1e-3, 1e-3]
    values = [float(row["val_auroc"]) for row in board]
    assert values == sorted(values, reverse=True)
    assert pq.read_table("s/leaderboard.parquet").column("val_auroc").to_pylist() == values
    said = capsys.readouterr().out
    assert "again:       OMP_NUM_THREADS=1 python train.py optimizer.lr=0.003 model=" in said
    assert "importance for val_auroc" in said
    assert {path.stem for path in Path("s/plots").glob("*.png")} >= {"history", "importance"}


def test_objective_is_that_of_the_report(sweep: Sweep, runs: Runs, ledger: Read) -> None:
    runs.report = lambda settings: {"val_auroc": 0.123456789012345, "val_f1": None, "epochs": 3}
    assert sweep("seed=1") == 0
    trial = ledger().trials[0]
    assert (list(trial.values), trial.epochs, trial.scores["val_f1"]) == ([0.123456789012345], 3, None)


def test_finished_trials_are_not_run_twice(sweep: Sweep, runs: Runs, ledger: Read) -> None:
    assert sweep(*SEARCH) == 0
    first = [trial.params for trial in ledger().trials]
    assert len(runs.settings) == 3
    assert sweep(*SEARCH) == 0
    assert len(runs.settings) == 3
    assert sweep(*SEARCH, "hydra.sweeper.n_trials=5") == 0
    assert len(runs.settings) == 5
    assert [trial.params for trial in ledger().trials][:3] == first
    assert [Path(settings.paths.output_dir).name for settings in runs.settings] == [str(n) for n in range(5)]


@pytest.mark.slow
def test_stopped_anywhere_it_ends_as_one_that_was_not(sweep: Sweep, runs: Runs, ledger: Read, tmp_path: Path) -> None:
    overrides = (*SEARCH, "hydra.sweeper.n_trials=14")
    assert entry.main(["-m", "hydra.sweep.dir=whole", *overrides]) == 0
    done = len(runs.settings)

    def stop(settings: Settings, number: int) -> None:
        if number in (done + 3, done + 11) and not (tmp_path / str(number)).exists():
            (tmp_path / str(number)).touch()
            raise KeyboardInterrupt

    runs.before = stop
    assert [sweep(*overrides) for _ in range(3)] == [130, 130, 0]
    whole = json.loads((tmp_path / "whole" / "trials" / "000013.json").read_text())
    assert [trial.number for trial in ledger().trials] == list(range(14))
    assert ledger().trials[13].params == whole["params"]
    assert len(runs.settings) == done + 14
    assert Path("s/best.yaml").read_text() == Path("whole/best.yaml").read_text()


def test_failures_are_recorded_and_never_fatal(
    sweep: Sweep, runs: Runs, ledger: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(settings: Settings, number: int) -> None:
        if settings.seed == 1:
            raise UserError("training: the loss is nan")
        if settings.seed == 2:
            raise ZeroDivisionError("odd")

    runs.before = fail
    runs.report = lambda settings: {"val_auroc": None if settings.seed == 3 else 0.5, "epochs": 1}
    assert sweep("seed=1,2,3,4") == 0
    assert [(trial.state, trial.error) for trial in ledger().trials] == [
        ("failed", "training: the loss is nan"),
        ("failed", "ZeroDivisionError: odd"),
        ("failed", "val_auroc is not a number"),
        ("complete", ""),
    ]
    assert "ZeroDivisionError" in Path("s/1/error.txt").read_text()
    assert [row["state"] for row in rows()] == ["complete", "failed", "failed", "failed"]
    assert "trial 0: failed: training: the loss is nan" in capsys.readouterr().out


def test_failed_trials_run_again_on_request(sweep: Sweep, runs: Runs, ledger: Read) -> None:
    def fail(settings: Settings, number: int) -> None:
        if settings.seed == 2:
            raise UserError("no")

    runs.before = fail
    assert sweep("seed=1,2") == 0
    runs.before = lambda settings, number: None
    assert sweep("seed=1,2") == 0
    assert [trial.state for trial in ledger().trials] == ["complete", "failed"]
    assert sweep("seed=1,2", "hydra.sweeper.retry_failed=true") == 0
    assert [trial.state for trial in ledger().trials] == ["complete", "complete"]
    assert [settings.seed for settings in runs.settings] == [1, 2]


def test_too_many_failures_end_it(sweep: Sweep, runs: Runs, ledger: Read, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(settings: Settings, number: int) -> None:
        if settings.seed > 1:
            raise UserError("no")

    runs.before = fail
    assert sweep("seed=1,2,3,4,5", "hydra.sweeper.max_failures=1") == 2
    assert capsys.readouterr().err == ("hydra.sweeper.max_failures: 2 trials failed, 1 are tolerated; trial 2: no\n")
    assert len(ledger().trials) == 3


def test_fault_of_the_machine_is_tried_again(sweep: Sweep, runs: Runs, ledger: Read) -> None:
    tries: list[int] = []

    def fail(settings: Settings, number: int) -> None:
        tries.append(settings.seed)
        if settings.seed == 1 and len(tries) < 3:
            raise RetryError("disk full")
        if settings.seed == 2:
            raise RetryError("disk full")

    runs.before = fail
    assert sweep("seed=1,2") == 0
    assert tries == [1, 1, 1, 2, 2, 2]
    assert [trial.state for trial in ledger().trials] == ["complete", "failed"]


def test_stopped_trial_stops_the_sweep_with_its_code(sweep: Sweep, runs: Runs, ledger: Read) -> None:
    def stop(settings: Settings, number: int) -> None:
        if settings.seed == 2:
            raise StoppedError("saved", 15)

    runs.before = stop
    assert sweep("seed=1,2,3") == 143
    assert [trial.state for trial in ledger().trials] == ["complete", "running"]
    assert [row["state"] for row in rows()] == ["complete", "running"]


def test_stopped_sweep_leaves_the_board_and_the_command_to_go_on(
    sweep: Sweep, runs: Runs, ledger: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(settings: Settings, number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    runs.before = stop
    assert sweep("seed=1,2,3", "hydra.sweeper.max_failures=2") == 130
    said = capsys.readouterr().out
    assert "leaderboard" in said
    command = said.splitlines()[-1].removeprefix("go on with:  ")
    assert command == "python train.py -m hydra.sweeper.max_failures=2 seed=1,2,3 paths.output_dir=s"
    runs.before = lambda settings, number: None
    assert entry.main(shlex.split(command)[2:]) == 0
    assert [trial.state for trial in ledger().trials] == ["complete"] * 3
    assert len(runs.settings) == 3


def test_timeout_begins_no_more_trials(sweep: Sweep, ledger: Read) -> None:
    assert sweep("seed=1,2,3", "hydra.sweeper.timeout=1e-9") == 0
    assert ledger().trials == []
    assert sweep("seed=1,2,3") == 0
    assert len(ledger().trials) == 3


@pytest.mark.slow
def test_two_objectives(sweep: Sweep, runs: Runs, ledger: Read) -> None:
    runs.report = lambda settings: {
        "val_auroc": score(settings),
        "seconds": getattr(settings.model, "width", 1) / 10,
        "epochs": 1,
    }
    assert (
        sweep(
            *SEARCH,
            "hydra.sweeper.n_trials=8",
            "hydra.sweeper.pruner=none",
            "hydra.sweeper.sampler=nsgaii",
            "hydra.sweeper.objectives=[val_auroc,seconds]",
        )
        == 0
    )
    found = ledger()
    assert found.header.directions == ["maximize", "minimize"]
    board = rows()
    front = [(float(row["val_auroc"]), float(row["seconds"])) for row in board if row["front"] == "1"]
    others = [(float(row["val_auroc"]), float(row["seconds"])) for row in board if row["front"] != "1"]
    for value, seconds in others:
        assert any(a >= value and b <= seconds for a, b in front)
    assert front == sorted(front, reverse=True)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["trainer.max_epochs=9"], "hydra.sweep.dir: trainer.max_epochs was None, now it is 9"),
        (["seed=1,2,3"], "hydra.sweep.dir: seed was choice(1,2), now it is choice(1,2,3)"),
        pytest.param(
            ["seed=1", "optimizer.lr=1,2"],
            "hydra.sweep.dir: seed was choice(1,2), now it is not swept",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["objective=val_f1"],
            "hydra.sweep.dir: hydra.sweeper.objectives was ['val_auroc'], now it is ['val_f1']",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_changed_sweep_is_refused_with_the_difference(
    sweep: Sweep, runs: Runs, capsys: pytest.CaptureFixture[str], overrides: list[str], line: str
) -> None:
    assert sweep("seed=1,2") == 0
    assert sweep("seed=1,2", *overrides) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == line
    assert said[-1].startswith("hydra.sweep.dir: set these back")
    assert len(runs.settings) == 2


def test_what_no_result_hangs_on_may_change(sweep: Sweep, runs: Runs) -> None:
    assert sweep("seed=1,2") == 0
    assert sweep("seed=1,2", "trainer.log_interval=7", "logger=none", "paths.cache_dir=elsewhere") == 0
    assert len(runs.settings) == 2


def test_another_sampler_may_go_on(sweep: Sweep, ledger: Read, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(*SEARCH) == 0
    assert sweep(*SEARCH, "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler=random") == 0
    assert "hydra.sweeper.sampler was tpe, from here on it is random" in capsys.readouterr().out
    assert len(ledger().trials) == 4


MISTAKES = [
    (["optimizer.lrr=1,2"], "optimizer.lrr: no such key (got 1): did you mean 'optimizer.lr'?"),
    (["model.width=interval(-4,-1)", "hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=2"], "model.width: expec"),
    (["optimizer.lr=interval(1,2)"], "optimizer.lr: interval(1.0,2.0) has no end of values: a grid needs choice(...)"),
    (["optimizer.lr=interval(2,1)"], "optimizer.lr: interval(2.0,1.0) is empty: its first number must be the smaller"),
    (["optimizer.lr=tag(lg,interval(1,2))"], "optimizer.lr: no such tag, 'lg': did you mean 'log'?"),
    (["optimizer.lr=tag(log,interval(0,2))"], "optimizer.lr: tag(log, interval(0.0,2.0)) must begin above 0"),
    (["objective=val_f1,val_auroc"], "objective: is what the trials are compared by: it cannot be swept"),
    (["hydra.sweeper.objectives=[val_auc]"], "hydra.sweeper.objectives: no such objective, 'val_auc': did you mean"),
    (["hydra.sweeper.objectives=[test_f1]"], "hydra.sweeper.objectives: test_f1: a choice by the test split would"),
    (
        ["hydra.sweeper.objectives=[val_f1,seconds]", "hydra.sweeper.directions=[maximize]"],
        "hydra.sweeper.directions: is missing for seconds: give one for each objective, or null",
    ),
    (["hydra.sweeper.sampler=tpe"], "hydra.sweeper.n_trials: is missing: a search by tpe has no end of its own"),
    (["hydra.sweeper.sampler=tp", "hydra.sweeper.n_trials=2"], "hydra.sweeper.sampler: no such sampler, 'tp': did"),
    (["hydra.sweeper.pruner=medain"], "hydra.sweeper.pruner: no such pruner, 'medain': did you mean 'median'?"),
    (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials: expected a whole number >= 1, got 0"),
    (["hydra.sweeper.n_trial=3"], "hydra.sweeper.n_trial: no such key in the composed configuration: --cfg hydra"),
    (["hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=2"], "hydra.sweeper.params: there is nothing to search"),
    (["model=mlp,resnet", "model.expansion=1,2"], "model.expansion: no such key in the composed configuration: it be"),
    (["hydra.sweep.dir=file/s", "seed=1,2"], "hydra.sweep.dir: cannot write to "),
    (["hydra/launcher=process", "hydra.launcher.n_jobs=0", "seed=1,2"], "hydra.launcher.n_jobs: expected a whole nu"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "line"), MISTAKES, ids=[" ".join(overrides) for overrides, _ in MISTAKES])
def test_mistake_is_one_line(
    sweep: Sweep, runs: Runs, capsys: pytest.CaptureFixture[str], overrides: list[str], line: str
) -> None:
    Path("file").touch()
    assert sweep(*overrides) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(line)
    assert "Traceback" not in "".join(said)
    assert runs.settings == []
    assert not Path("s/trials").exists() or not list(Path("s/trials").iterdir())


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ("{optimizer.lrr: 'choice(1,2)'}", "optimizer.lrr: no such key (got 1): did you mean 'optimizer.lr'?"),
        ("{optimizer.lrr: 'range(1,5)'}", "optimizer.lrr: no such key (got 1): did you mean 'optimizer.lr'?"),
        ("{optimizer.lr: [1, 2]}", "hydra.sweeper.params: optimizer.lr: expected text in Hydra's grammar"),
        ("{optimizer: {lr: 'choice(1,2)'}}", "hydra.sweeper.params: optimizer: expected text in Hydra's grammar"),
        ("{optimizer.lr: 'interval(1'}", "optimizer.lr=interval(1: cannot be read"),
    ],
)
def test_mistake_in_an_option_is_one_line(
    runs: Runs, capsys: pytest.CaptureFixture[str], params: str, line: str
) -> None:
    Path("mine/hparams_search").mkdir(parents=True)
    Path("mine/hparams_search/x.yaml").write_text(f"# @package _global_\nhydra:\n  sweeper:\n    params: {params}\n")
    assert entry.main(["-m", "--config-dir", "mine", "hparams_search=x", "hydra.sweep.dir=s"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)
    assert not Path("s").exists()


@pytest.mark.parametrize(
    ("values", "shown"),
    [("1,2", "1"), ("interval(1,2)", "'interval(1,2)'"), ("range(1,4)", "1"), ("glob(*)", "'glob(*)'")],
)
def test_space_that_names_no_key_is_one_line(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], values: str, shown: str
) -> None:
    assert sweep(f"optimizer.lrr={values}") == 2
    assert capsys.readouterr().err == f"optimizer.lrr: no such key (got {shown}): did you mean 'optimizer.lr'?\n"


@pytest.mark.slow
def test_fewer_trials_than_there_are(sweep: Sweep, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(*SEARCH) == 0
    assert sweep(*SEARCH, "hydra.sweeper.n_trials=2") == 2
    assert capsys.readouterr().err.startswith("hydra.sweeper.n_trials: 2 is below the 3 trials that ")
    assert len(runs.settings) == 3


def test_two_sweeps_in_one_directory(sweep: Sweep, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s").mkdir()
    with open("s/.sweep.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(str(os.getpid()))
        file.flush()
        assert sweep("seed=1,2") == 2
    assert capsys.readouterr().err.startswith(f"hydra.sweep.dir: another sweep (process {os.getpid()}) is running in ")
    assert runs.settings == []


def test_hparams_search_without_a_sweep(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["hparams_search=optuna"]) == 2
    assert capsys.readouterr().err == "hparams_search=optuna: is for a sweep: add -m\n"
    assert runs.settings == []


def test_torchrun_is_refused(sweep: Sweep, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert sweep("seed=1,2") == 2
    assert runs.settings == []


def test_password_of_a_storage_is_never_written(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*SEARCH, "hydra.sweeper.storage='postgresql://me:hunter2@host/db'") == 2
    assert "hunter2" not in capsys.readouterr().err
    monkeypatch.setenv("STORAGE", "sqlite:///hunter2.db")
    assert sweep(*SEARCH, "hydra.sweeper.storage='${oc.env:STORAGE}'") == 0
    written = [file for file in (tmp_path / "s").rglob("*") if file.is_file() and b"hunter2" in file.read_bytes()]
    assert written == []
    import optuna

    studies = optuna.get_all_study_summaries("sqlite:///hunter2.db")
    assert [study.n_trials for study in studies] == [3]


@pytest.mark.parametrize(
    ("overrides", "given", "expected"),
    [(["trainer=cpu"], None, "1"), (["trainer=cpu"], "3", "3"), (["trainer=gpu"], None, None)],
)
def test_trials_on_the_cpu_have_one_thread(
    sweep: Sweep,
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    given: str | None,
    expected: str | None,
) -> None:
    """With another number of threads the sums differ, and with them the way a search goes."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    found: list[str | None] = []
    runs.before = lambda settings, number: found.append(os.environ.get("OMP_NUM_THREADS"))
    assert sweep("seed=1,2", *overrides) == 0
    assert found == [expected, expected]
    assert os.environ.get("OMP_NUM_THREADS") == given
    assert Path("s/best.sh").read_text().startswith(f"OMP_NUM_THREADS={expected} python" if expected else "python")


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_grid_and_search_of_one_grammar(sweep: Sweep, ledger: Read, sampler: str) -> None:
    overrides = ["model.width=range(16,65,16)", "optimizer.lr=tag(log,choice)", "model.depth=int(interval(1,3))"]
    overrides[1] = "optimizer.lr=choice(1e-3,2e-3)"
    assert sweep(*overrides, f"hydra.sweeper.sampler={sampler}", "hydra.sweeper.n_trials=3") == 0
    for trial in ledger().trials:
        assert trial.params["model.width"] in {"16", "32", "48", "64"}
        assert trial.params["optimizer.lr"] in {"0.001", "0.002"}
        assert trial.params["model.depth"] in {"1", "2", "3"}
    assert Path("s/optuna.journal").is_file()


def test_command_line_wins_over_the_option(sweep: Sweep, ledger: Read, runs: Runs) -> None:
    assert sweep(*SEARCH, "optimizer.lr=5e-3", "model.width=range(16,33,16)") == 0
    assert "optimizer.lr" not in ledger().header.space
    assert {settings.optimizer.lr for settings in runs.settings} == {5e-3}
    assert {getattr(settings.model, "width", 0) for settings in runs.settings} <= {16, 32}


def test_experiments_by_a_glob(sweep: Sweep, ledger: Read) -> None:
    assert sweep("experiment=glob(*)") == 0
    options = sorted(file.stem for file in (entry.config_dir() / "experiment").glob("*.yaml"))
    assert sorted(trial.params["experiment"] for trial in ledger().trials) == options


def test_shuffled_grid_goes_on_in_its_order(sweep: Sweep, ledger: Read, runs: Runs) -> None:
    assert sweep("seed=shuffle(range(4))", "hydra.sweeper.timeout=1e-9") == 0
    assert sweep("seed=shuffle(range(4))") == 0
    seeds = [settings.seed for settings in runs.settings]
    assert sorted(seeds) == list(range(4))
    assert seeds != list(range(4))


def test_custom_directories_of_trials(sweep: Sweep, ledger: Read) -> None:
    assert sweep("seed=1,2", "hydra.sweep.subdir='${hydra.job.override_dirname}'") == 0
    assert [trial.directory for trial in ledger().trials] == ["seed=1", "seed=2"]
    assert Path("s/seed=1/report.json").is_file()


def test_hydras_own_sweeper_still_works(runs: Runs) -> None:
    assert entry.main(["-m", "hydra/sweeper=basic", "hydra.sweep.dir=s", "seed=1,2"]) == 0
    assert [settings.seed for settings in runs.settings] == [1, 2]


def config(overrides: list[str]) -> dict[str, Any]:
    directories = [entry.config_dir(), Path("s")]
    found = composed(overrides, directories)
    return {key: value for key, value in found.items() if key not in ("paths", "tags")}


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=resnet,mlp", "optimizer=sgd"],
        pytest.param(["experiment=example,imbalanced", "seed=1,2"], marks=pytest.mark.slow),
        pytest.param([*SEARCH], marks=pytest.mark.slow),
    ],
)
def test_best_trial_can_be_run_again(sweep: Sweep, ledger: Read, overrides: list[str]) -> None:
    assert sweep(*overrides) == 0
    best = rows()[0]["trial"]
    trial = ledger().trials[int(best)]
    again = config(list(trial.overrides))
    assert config(["experiment=best"]) == again
    assert yaml.safe_load(Path("s/best.yaml").read_text()) is not None
    command = shlex.split(Path("s/best.sh").read_text())
    assert command[:3] == ["OMP_NUM_THREADS=1", "python", "train.py"]
    assert config(command[3:]) == again
