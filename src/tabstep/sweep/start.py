"""A sweep from its overrides: check, lock, go on where it was, run, and show what came out."""

from __future__ import annotations

import logging
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from types import FrameType
from typing import Any, cast

from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf

from tabstep.durable import write_durably
from tabstep.errors import StoppedError, UserError
from tabstep.sweep.best import command_line, write_best
from tabstep.sweep.board import Lines, LiveTable, show_leaderboard
from tabstep.sweep.check import changed_advice, check_same, check_space, check_surroundings, fixed
from tabstep.sweep.importance import importances
from tabstep.sweep.jobs import Composer
from tabstep.sweep.launchers import HydraRunner, ProcessRunner, process_runner
from tabstep.sweep.leaderboard import CSV, best_trial, write_leaderboard
from tabstep.sweep.ledger import HEADER, Header, Ledger, Trial, create_sweep, locked, read_sweep, write_header
from tabstep.sweep.loop import Loop
from tabstep.sweep.options import Options, parse_options
from tabstep.sweep.page import write_report
from tabstep.sweep.proposals import Proposer, make_proposer
from tabstep.sweep.runner import Runner
from tabstep.sweep.space import Space, parse_space

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
LEAST_WINDOW = 3
"""Of one process as of two: the sweep is the same with either."""


def start(
    raw: Mapping[str, Any],
    arguments: Sequence[str],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
) -> list[float]:
    """Run the trials of a sweep that have not ended yet, and show the leaderboard.

    Args:
        raw: what stands below ``hydra.sweeper``.
        arguments: the overrides, those of a sweep among them.

    Returns:
        The first objective of each trial that has one, in their order.

    Raises:
        UserError: the sweep cannot be run, or no trial came to a result.
        StoppedError: a signal came; the same command goes on.
    """
    check_surroundings(config)
    composer = Composer(context.config_loader, config)
    base = composer.base()
    options = parse_options(_plain(raw), objective=str(base["objective"]), seed=int(base["seed"]))
    space = parse_space([*_given(_plain(raw)["params"]), *arguments], composer.loader, seed=options.seed)
    header = _header(options, space, base)
    several = check_space(space, composer, options.objectives[0])
    proposer = make_proposer(space, options, int(base["trainer"]["max_epochs"]))
    with locked(composer.sweep_dir) as descriptor:
        ledger = _open(composer, header, proposer)
        runner = _runner(options, composer, context, task, several=several, descriptor=descriptor)
        try:
            _run(ledger, space, options, proposer, composer, runner)
        finally:
            write_leaderboard(ledger)
    _conclude(ledger, space, composer)
    return [trial.values[0] for trial in ledger.trials if trial.values]


def _plain(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
        for key, value in raw.items()
    }


def _given(params: Mapping[str, Any]) -> list[str]:
    """Return ``hydra.sweeper.params`` as overrides.

    Raises:
        UserError: a value is not one in Hydra's grammar.
    """
    for key, value in params.items():
        if isinstance(value, list | dict):
            raise UserError(
                f"hydra.sweeper.params: {key}: expected text in Hydra's grammar, such as 'choice(1,2)', got {value!r}"
            )
    return [f"{key}={'null' if value is None else value}" for key, value in params.items()]


def _header(options: Options, space: Space, base: Mapping[str, Any]) -> Header:
    return Header(
        objectives=list(options.objectives),
        directions=list(options.directions),
        space=space.texts(),
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
        study=f"tabstep-{secrets.token_hex(4)}",
        base=fixed(base),
    )


def _open(composer: Composer, header: Header, proposer: Proposer) -> Ledger:
    """Start a sweep, or go on with the one in the directory.

    Raises:
        UserError: the one there is another sweep, or has more trials than are asked for.
    """
    directory = composer.sweep_dir
    OmegaConf.save(composer.master, directory / "multirun.yaml")
    if not (directory / HEADER).is_file():
        return create_sweep(directory, header)
    ledger = read_sweep(directory)
    check_same(ledger.header, header)
    begun, done = len(ledger.trials), sum(trial.finished for trial in ledger.trials)
    if begun > proposer.total:
        raise UserError(
            f"hydra.sweeper.n_trials: {proposer.total} is below the {begun} trials that {directory} has already: it "
            "counts them all, those of earlier calls too"
        )
    for note in changed_advice(ledger.header, header):
        print(note)
    header = replace(header, study=ledger.header.study)
    write_header(directory, header)
    print(f"going on in {directory}: {done} trials have ended, {begun - done} were interrupted")
    return Ledger(directory, header, ledger.trials)


def _runner(
    options: Options,
    composer: Composer,
    context: HydraContext,
    task: TaskFunction,
    *,
    several: bool,
    descriptor: int,
) -> Runner:
    """Choose where the trials run: what was asked for, or a process each when a trial needs several devices."""
    launcher = composer.master.hydra.launcher
    basic = str(launcher.get("_target_")) == BASIC
    if basic and several:
        print("hydra/launcher=process: chosen, for a trial uses several devices")
        return process_runner(1, descriptor)
    built = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=composer.master)
    if hasattr(built, "runner"):  # one of tabstep's own, which take trials one by one
        return cast(Runner, built.runner(descriptor))
    logging.getLogger(type(built).__module__).setLevel(logging.WARNING)  # the sweep says what it starts
    jobs = launcher.get("n_jobs")
    batch = jobs if isinstance(jobs, int) and jobs > 0 else 1 if options.searches else 2**31
    return HydraRunner(built, 1 if basic else batch)


def _run(
    ledger: Ledger, space: Space, options: Options, proposer: Proposer, composer: Composer, runner: Runner
) -> None:
    window = max(LEAST_WINDOW, 2 * min(runner.slots, 10_000) - 1)
    live = isinstance(runner, ProcessRunner) and sys.stdout.isatty()
    board = LiveTable(ledger, proposer.total) if live else Lines(ledger, proposer.total)
    with board if isinstance(board, LiveTable) else nullcontext(), _stoppable(runner):
        Loop(ledger, space, options, proposer, composer, runner, window, board, _follower(ledger, space, options)).run()


def _follower(ledger: Ledger, space: Space, options: Options) -> Callable[[Trial], None]:
    """Return what is told of each change: the leaderboard, and for a search Optuna's storage."""
    if options.sampler == "all":
        return lambda trial: write_leaderboard(ledger, parquet=False) if trial.finished else None
    from tabstep.sweep.mirror import Mirror

    mirror = Mirror(ledger.directory, options.storage, ledger.header, space.dimensions, ledger.trials)

    def follow(trial: Trial) -> None:
        mirror(trial)
        if trial.finished:
            write_leaderboard(ledger, parquet=False)

    return follow


@contextmanager
def _stoppable(runner: Runner) -> Iterator[None]:
    """Let SIGTERM end the processes of trials in order; a trial in this process sees to itself."""
    if not isinstance(runner, ProcessRunner):
        yield
        return

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise StoppedError("stopped by SIGTERM: the trials have saved their state; the same command goes on", signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _conclude(ledger: Ledger, space: Space, composer: Composer) -> None:
    """Show the leaderboard and how to run the best trial again.

    Raises:
        UserError: no trial came to a result.
    """
    best = best_trial(ledger)
    if best is None:
        failed = [trial for trial in ledger.trials if trial.state == "failed"]
        if not failed:
            print("no trial has ended: nothing to compare yet")
            return
        last = " ".join(failed[-1].error.split())
        raise UserError(f"none of {len(failed)} trials came to a result; trial {failed[-1].number}: {last}")
    shares = importances(ledger, space.dimensions)
    show_leaderboard(ledger, shares)
    print(f"leaderboard: {ledger.directory / CSV}")
    if find_spec("matplotlib") is not None:
        print(f"report:      {write_report(ledger, space.dimensions, shares)}")
    print(f"best trial:  {ledger.path(best)}")
    command = command_line(best, composer)
    write_best(best, composer, ledger.directory)
    write_durably(ledger.directory / "best.sh", f"{command}\n".encode())
    print(f"again:       {command}")
    print(f"as a start:  --config-dir {ledger.directory} experiment=best")
