"""The loop with stand-ins for Hydra and for processes, killed wherever it does something."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.sweep.test_samplers import options

from tabstep.errors import UserError
from tabstep.sweep import loop as loop_module
from tabstep.sweep.ledger import HEADER, Header, Ledger, Trial, create_sweep, read_sweep
from tabstep.sweep.loop import Loop
from tabstep.sweep.runner_interface import Job, TrialResult
from tabstep.sweep.samplers import make_proposer
from tabstep.sweep.space import Space, parse_space

SPACE = parse_space(["lr=tag(log,interval(1e-4,1e-1))", "x=interval(0,1)"])
GRID = parse_space(["x=range(0,6)", "lr=0.1"])
Crash = Callable[[str], None]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@dataclass
class FakeRunner:
    """Runs jobs that take as many looks as ``seconds`` says; writes the report of a run."""

    slots: int
    crash: Crash
    seconds: Callable[[int], int] = lambda number: 1
    outcome: Callable[[int], TrialResult] = lambda number: TrialResult(number=number)
    left: dict[int, int] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)
    stopped: int = 0

    def start(self, job: Job) -> None:
        self.crash("start")
        self.started.append(job.number)
        self.jobs[job.number] = job
        self.left[job.number] = self.seconds(job.number)

    def wait(self, seconds: float) -> list[TrialResult]:
        self.crash("wait")
        self.left = {number: left - 1 for number, left in self.left.items()}
        ended = [number for number, left in self.left.items() if left <= 0]
        for number in ended:
            del self.left[number]
            job = self.jobs[number]
            x, lr = (float(text.partition("=")[2]) for text in sorted(job.overrides, reverse=True))
            report = {"val_auroc": 1 - (x - 0.3) ** 2 - lr, "epochs": 3, "stop_reason": "trainer.max_epochs=3 reached"}
            job.directory.mkdir(exist_ok=True)
            (job.directory / "report.json").write_text(json.dumps(report))
        return [self.outcome(number) for number in ended]

    def stop(self) -> None:
        self.stopped += 1


@dataclass
class FakeComposer:
    sweep_dir: Path

    def compose(self, overrides: Sequence[str], number: int) -> Job:
        if "x=2" in overrides:
            raise UserError("x: two is refused")
        return Job(number, tuple(overrides), self.sweep_dir / str(number), {})


class Silent:
    def __init__(self) -> None:
        self.said: list[str] = []

    def started(self, trial: Trial) -> None:
        pass

    def ended(self, trial: Trial) -> None:
        pass

    def note(self, text: str) -> None:
        self.said.append(text)

    def refresh(self) -> None:
        pass


def build(
    directory: Path,
    runner: FakeRunner,
    space: Space = SPACE,
    *,
    window: int = 4,
    crash: Crash | None = None,
    **changes: Any,
) -> Loop:
    chosen = options("tpe", n_trials=14) if space is SPACE else options("all", n_trials=None)
    chosen = replace(chosen, **changes)
    if (directory / HEADER).exists():
        ledger = read_sweep(directory)
    else:
        header = Header(
            objectives=list(chosen.objectives),
            directions=list(chosen.directions),
            space=space.texts(),
            sampler=chosen.sampler,
            pruner="none",
            seed=5,
            study="s",
        )
        ledger = create_sweep(directory, header)
    if crash is not None:
        _crashing(ledger, crash)
    return Loop(
        ledger,
        space,
        chosen,
        make_proposer(space, chosen, 3),
        FakeComposer(directory),
        runner,
        window,
        Silent(),  # type: ignore[arg-type]
        lambda trial: None if crash is None else crash("mirror"),
    )


def _crashing(ledger: Ledger, crash: Crash) -> None:
    save = ledger.save

    def crashing(trial: Trial) -> None:
        crash("before save")
        save(trial)
        crash("after save")

    object.__setattr__(ledger, "save", crashing)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "settings_of", lambda job: None)


def plain(ledger: Ledger) -> list[Any]:
    return [
        (trial.number, trial.state, dict(trial.params), list(trial.values), trial.epochs) for trial in ledger.trials
    ]


def whole(directory: Path, slots: int, window: int = 4) -> tuple[list[Any], int]:
    directory.mkdir()
    points = 0

    def count(_: str) -> None:
        nonlocal points
        points += 1

    loop = build(directory, FakeRunner(slots, count), crash=count, window=window)
    loop.run()
    return plain(loop.ledger), points


@pytest.mark.parametrize("slots", [1, 2])
def test_killed_twice_at_any_point_it_ends_as_one_that_was_not(tmp_path: Path, slots: int) -> None:
    expected, points = whole(tmp_path / "whole", slots)
    assert len(expected) == 14
    for first in range(0, points, 7):
        directory = tmp_path / str(first)
        directory.mkdir()
        done: set[int] = set()
        ran: list[int] = []
        for kill in (first, 17, None):
            left = iter(range(10**9) if kill is None else range(kill))

            def crash(_: str, left: Any = left) -> None:
                if next(left, None) is None:
                    raise Killed

            runner = FakeRunner(slots, crash)
            loop = build(directory, runner, crash=crash)
            with contextlib.suppress(Killed):
                loop.run()
            assert not done & set(runner.started), "a finished trial was run again"
            ran += runner.started
            done = {trial.number for trial in read_sweep(directory).trials if trial.finished}
        assert plain(read_sweep(directory)) == expected
        assert set(ran) == set(range(14))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_it_does_not_hang_on_how_fast_trials_are(tmp_path: Path, slots: int) -> None:
    """With one window, any number of processes and any durations give the same trials."""
    expected, _ = whole(tmp_path / "whole", 1, window=6)
    for name, seconds in {"slow": lambda n: 1 + n % 3, "steep": lambda n: 9 if n % 4 == 0 else 1}.items():
        directory = tmp_path / f"{name}"
        directory.mkdir()
        runner = FakeRunner(slots, lambda _: None, seconds)
        loop = build(directory, runner, window=6)
        loop.run()
        assert plain(loop.ledger) == expected
        assert runner.stopped == 1


def test_all_slots_are_used(tmp_path: Path) -> None:
    runner = FakeRunner(3, lambda _: None, lambda number: 4)
    most = 0

    class Watch(Silent):
        def refresh(self) -> None:
            nonlocal most
            most = max(most, len(runner.left))

    loop = build(tmp_path, runner, GRID)
    loop.board = Watch()
    loop.run()
    assert most == 3


def test_trial_that_cannot_be_composed_is_recorded(tmp_path: Path) -> None:
    loop = build(tmp_path, FakeRunner(2, lambda _: None), GRID)
    loop.run()
    assert [trial.state for trial in loop.ledger.trials] == ["complete"] * 2 + ["failed"] + ["complete"] * 3
    assert loop.ledger.trials[2].error == "x: two is refused"


def test_trial_whose_process_was_killed_starts_again(tmp_path: Path) -> None:
    tries: dict[int, int] = {}

    def outcome(number: int) -> TrialResult:
        tries[number] = tries.get(number, 0) + 1
        killed = (number == 1 and tries[number] < 3) or number == 3
        return (
            TrialResult(number=number, error="its process was killed by SIGKILL", lost=True)
            if killed
            else TrialResult(number=number)
        )

    loop = build(tmp_path, FakeRunner(1, lambda _: None, outcome=outcome), GRID)
    loop.run()
    assert tries == {0: 1, 1: 3, 3: 3, 4: 1, 5: 1}
    assert [trial.state for trial in loop.ledger.trials] == [
        "complete", "complete", "failed", "failed", "complete", "complete"]  # fmt: skip
    assert loop.ledger.trials[1].attempts == 3


def test_failures_that_are_tolerated(tmp_path: Path) -> None:
    runner = FakeRunner(1, lambda _: None, outcome=lambda n: TrialResult(number=n, error=f"no {n}"))
    loop = build(tmp_path, runner, GRID, max_failures=1)
    with pytest.raises(UserError, match="2 trials failed, 1 are tolerated; trial 1: no 1"):
        loop.run()
    assert runner.started == [0, 1]


def test_random_values_wait_for_no_results(tmp_path: Path) -> None:
    runner = FakeRunner(9, lambda _: None, lambda number: 5)
    loop = build(tmp_path, runner, sampler="random", n_trials=9)
    loop.run()
    assert [trial.sees for trial in loop.ledger.trials] == [0] * 9


def test_pruning_makes_trials_look_back(tmp_path: Path) -> None:
    loop = build(tmp_path, FakeRunner(2, lambda _: None), GRID, pruner="median")
    loop.run()
    assert [trial.sees for trial in loop.ledger.trials] == [0, 0, 0, 0, 1, 2]
    pointer = json.loads((tmp_path / "5" / "trial.json").read_text())
    assert (pointer["sweep"], pointer["sees"], pointer["pruner"]) == ("..", 2, "median")
