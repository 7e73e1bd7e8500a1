"""The entry point of a sweep: validate, lock, resume, run the loop, and show the summary."""

from __future__ import annotations

import importlib
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf

from tabstep.config.secrets import redacted
from tabstep.config.settings import Settings
from tabstep.errors import StoppedError, UserError
from tabstep.registry import metric_key
from tabstep.sweep.best import command_to_go_on, standalone
from tabstep.sweep.compose_trials import Composer
from tabstep.sweep.delegated_sweep import Handover
from tabstep.sweep.leaderboard import write_leaderboard
from tabstep.sweep.ledger import HEADER, Header, Ledger, Trial, create_sweep, locked, read_sweep, write_header
from tabstep.sweep.loop import Loop
from tabstep.sweep.options import USUAL_EPOCHS, Options, parse_options
from tabstep.sweep.progress_view import Lines, LiveTable
from tabstep.sweep.runner_interface import Job, Runner, SweepContext
from tabstep.sweep.runners import THREADS, HydraRunner, ProcessRunner, visible_gpus
from tabstep.sweep.samplers import Proposer, make_proposer
from tabstep.sweep.select_launcher import LauncherFactory, choose_runner, hand_over, launch_of
from tabstep.sweep.space import Space, given, parse_space
from tabstep.sweep.summary import conclude, pause
from tabstep.sweep.tracked_sweep import tracked_sweep
from tabstep.sweep.validate import changed_advice, check_same, check_space, check_surroundings, fixed

LEAST_WINDOW = 3
"""Of one process as of two: the sweep is the same with either."""


@dataclass(frozen=True)
class Plan:
    """What a sweep is to do, checked."""

    composer: Composer
    options: Options
    space: Space
    proposer: Proposer
    header: Header
    tuned: bool = False
    """Whether the service's own tuner does all of it."""


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
    plan = make_plan(_plain(raw), arguments, composer)
    # before the lock, which makes the directory: a mistake leaves none
    settings = check_space(plan.space, composer)
    launcher = LauncherFactory(context, task, config)
    if plan.tuned:
        handover = Handover(space=plan.space, options=plan.options, samples=settings, composer=composer)
        return hand_over(launcher, handover)
    with locked(composer.sweep_dir) as descriptor, _same_threads(settings):
        ledger = _open(plan)
        with tracked_sweep(ledger, settings) as links:
            surroundings = SweepContext(
                descriptor=descriptor,
                study=ledger.header.study,
                spent=sum(trial.usd or 0.0 for trial in ledger.trials),
                conf_dirs=tuple(composer.extra_conf_dirs),
                standalone=lambda overrides: [*standalone(overrides, composer), *links],
            )
            _run_and_conclude(plan, ledger, choose_runner(launcher, settings, surroundings, plan.options))
    return [trial.values[0] for trial in ledger.trials if trial.values]


def _run_and_conclude(plan: Plan, ledger: Ledger, runner: Runner) -> None:
    try:
        _run(plan, ledger, runner)
    except (KeyboardInterrupt, StoppedError):
        pause(ledger, plan.composer)
        raise
    finally:
        write_leaderboard(ledger)
    conclude(ledger, plan.space, plan.composer)


def make_plan(raw: Mapping[str, Any], arguments: Sequence[str], composer: Composer) -> Plan:
    """Read what is asked for.

    Raises:
        UserError: it makes no sense, or a package is missing.
    """
    base = composer.base()
    options = parse_options(raw, objective=str(base["objective"]), seed=int(base["seed"]), added=_added_scores(base))
    tuned = bool(base["launch"].get("tuner"))
    if not tuned and (options.sampler != "all" or options.pruner != "none"):
        importlib.import_module("tabstep.sweep.optuna_study")  # says so where Optuna is missing
    where = launch_of(composer.master) if base["launch"]["name"] == "local" else []
    texts = [*given(raw["params"]), *where, *arguments]
    space = parse_space(texts, composer.loader, seed=options.seed)
    proposer = make_proposer(space, options, int(base["trainer"]["max_epochs"] or USUAL_EPOCHS))
    return Plan(composer, options, space, proposer, _header(options, space, base, command_to_go_on(composer)), tuned)


def _added_scores(base: Mapping[str, Any]) -> list[str]:
    parts = base["metrics"]["extra"]
    names = [part["name"] if isinstance(part, Mapping) else part for part in parts if isinstance(part, Mapping | str)]
    return [f"val_{metric_key(str(name))}" for name in names]


def _plain(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
        for key, value in raw.items()
    }


def _header(options: Options, space: Space, base: Mapping[str, Any], command: str) -> Header:
    return Header(
        objectives=list(options.objectives),
        directions=list(options.directions),
        space=space.texts(),
        sampler=options.sampler,
        pruner=options.pruner,
        seed=options.seed,
        study=f"tabstep-{secrets.token_hex(4)}",
        base=fixed(redacted(base, os.environ)),
        command=command,
    )


def _open(plan: Plan) -> Ledger:
    """Start a sweep, or go on with the one in the directory.

    Raises:
        UserError: the one there is another sweep, or has more trials than are asked for.
    """
    directory, header, total = plan.composer.sweep_dir, plan.header, plan.proposer.total
    # as Hydra's own sweeper leaves it
    OmegaConf.save(plan.composer.master, directory / "multirun.yaml")
    if not (directory / HEADER).is_file():
        return create_sweep(directory, header)
    ledger = read_sweep(directory)
    check_same(ledger.header, header)
    begun, done = len(ledger.trials), sum(trial.finished for trial in ledger.trials)
    if begun > total:
        raise UserError(
            f"hydra.sweeper.n_trials: {total} is below the {begun} trials that {directory} has already: it "
            "counts them all, those of earlier calls too"
        )
    for note in changed_advice(ledger.header, header):
        print(note)
    # a name is drawn at each call: trackers know the sweep by the first one
    header = replace(header, study=ledger.header.study)
    write_header(directory, header)
    print(f"going on in {directory}: {done} trials have ended, {begun - done} were interrupted")
    return Ledger(directory, header, ledger.trials)


def _run(plan: Plan, ledger: Ledger, runner: Runner) -> None:
    options = plan.options
    if runner.elsewhere:
        options = _for_jobs(options)
        runner.check(list(_jobs(plan, ledger)))
    # each other slot gets two more trials before it has to wait for the slowest one
    window = max(LEAST_WINDOW, 2 * min(runner.slots, 10_000) - 1)
    # trials in this process print lines of their own
    live = not isinstance(runner, HydraRunner) and sys.stdout.isatty()
    board = LiveTable(ledger, plan.proposer.total) if live else Lines(ledger, plan.proposer.total)
    follower = _follower(ledger, plan.space, options)
    with board if isinstance(board, LiveTable) else nullcontext(), _stoppable(runner):
        Loop(ledger, plan.space, options, plan.proposer, plan.composer, runner, window, board, follower).run()


@contextmanager
def _same_threads(settings: Sequence[Settings]) -> Iterator[None]:
    """Give each trial on this machine's CPU one thread, unless the environment names a number.

    Sums differ in their last digits with the number of threads, and a search then goes another way. With one, it comes
    out the same in this process, in two processes and on a machine with more cores.
    """
    if THREADS in os.environ or not any(map(_is_on_cpu, settings)):
        yield
        return
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[THREADS]


def _is_on_cpu(settings: Settings) -> bool:
    accelerator = settings.trainer.accelerator
    return settings.launch.name == "local" and (accelerator == "cpu" or (accelerator == "auto" and not visible_gpus()))


def _for_jobs(options: Options) -> Options:
    if options.pruner != "none":
        print(f"hydra.sweeper.pruner={options.pruner}: is not used, for a job knows nothing of the other trials")
    return replace(options, pruner="none")


def _jobs(plan: Plan, ledger: Ledger) -> Iterator[Job]:
    """Return the jobs that are known before anything is paid for: all of a grid, those to come first of a search."""
    open_trials = [trial for trial in ledger.trials if not trial.finished]
    yield from (plan.composer.compose(trial.overrides, trial.number) for trial in open_trials)
    first, total = len(ledger.trials), plan.proposer.total
    last = min(total, first + 2) if plan.options.searches else total
    # without results: a first guess at what will be asked for
    for number in range(first, last):
        params = plan.proposer.propose(number, ledger.trials[:number], 0).params
        yield plan.composer.compose(plan.space.overrides(params), number)


def _follower(ledger: Ledger, space: Space, options: Options) -> Callable[[Trial], None]:
    """Return what is told of each change: the leaderboard, and for a search Optuna's storage."""
    if options.sampler == "all":
        return lambda trial: write_leaderboard(ledger, parquet=False) if trial.finished else None
    from tabstep.sweep.optuna_storage import Mirror

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
