"""From the command line to ``tabstep.run.run``: argv in order, overrides checked, composed by Hydra, typed, run.

Nothing here imports torch, lightning or pyarrow: a mistake, ``--help`` and ``--cfg job`` answer at once. Hydra itself
is imported where it is first needed, for ``--help`` does without.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabstep.config.command_line import Command
from tabstep.config.components import missing_components
from tabstep.config.conf_directory import PRIMARY, config_dir
from tabstep.config.local_tables import missing_tables
from tabstep.config.overrides import check_overrides
from tabstep.config.parse import parse
from tabstep.config.secrets import redacted
from tabstep.container import container
from tabstep.errors import ProblemsError, RetryError, UserError
from tabstep.registry import PluginSettings
from tabstep.run_files import CHECKPOINTS, HISTORY, HYDRA, REPORT
from tabstep.system.command_record import CommandRecord
from tabstep.system.exits import exit_code, write_failure
from tabstep.system.locks import check_free, discard_unused
from tabstep.system.surroundings import check_surroundings
from tabstep.system.thread_waiting import set_omp_wait_policy, usage

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from tabstep.config.settings import Settings

# the first of two looks at what other programs use, see ``thread_waiting``
_AT_START = usage()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a training, or what Hydra's flags ask for, and return the exit code (see ``tabstep.errors``).

    In the container of a SageMaker job the command line is the job's.
    """
    return exit_code(container.command(train, argv))


def train(argv: Sequence[str]) -> None:
    """Check the command line, compose the configuration and run it, once or for each job of a sweep.

    Raises:
        ProblemsError: the command line or the composed configuration is wrong: every problem, one line each.
        UserError: the input is wrong.
        RetryError: the same command may succeed later.
    """
    command = Command.split(argv)
    check_surroundings()
    conf_dirs = _conf_dirs(command)
    if "--help" in command.flags:
        from tabstep.config.help import help_text, topic_help

        topics = [text for text in command.overrides if "=" not in text]
        print("\n\n".join(topic_help(topic, conf_dirs) for topic in topics) or help_text(conf_dirs))
        return
    there: list[Path] = []
    if not command.flags.keys() & {"--shell-completion", "--hydra-help", "--version"}:
        there = check_command(command, conf_dirs)
    _compose_and_run(command.argv + _sweep_directory(command), there, multirun=command.multirun)


def _conf_dirs(command: Command) -> list[Path]:
    """Return the directories of the configuration; those that flags name become absolute, as the shell means them."""
    for flag in ("--config-path", "--config-dir"):
        if (name := command.flags.get(flag)) is not None:
            if not Path(name).is_dir():
                raise UserError(f"{flag}: no such directory: {name!r}")
            command.flags[flag] = str(Path(name).resolve())
    named = [command.flags.get("--config-path") or config_dir(), command.flags.get("--config-dir")]
    return [Path(directory) for directory in named if directory is not None]


def check_command(command: Command, conf_dirs: Sequence[Path]) -> list[Path]:
    """Find every mistake in a command line and in what it composes, before a run makes its directory.

    Returns:
        The directory of the run if it is there already, which is not the run's to remove.

    Raises:
        ProblemsError: one line each.
    """
    there: list[Path] = []
    problems, sound = check_overrides(command.overrides, conf_dirs, multirun=command.multirun)
    if not command.multirun and "--cfg" not in command.flags:
        problems += [f"{text}: is for a sweep: add -m" for text in sound if text.startswith("hparams_search=")]
    if "--info" not in command.flags and command.flags.get("--cfg") in (None, "job"):
        problems += _composed_problems(sound, conf_dirs, command, there, quiet=bool(problems))
    if problems:
        raise ProblemsError(list(dict.fromkeys(problems)))
    return there


def compose_run(overrides: Sequence[str]) -> tuple[dict[str, Any], Settings]:
    """Return the configuration of one run as plain containers, and typed; no directory is made.

    Raises:
        ProblemsError: an override or what they compose is wrong: every problem, one line each.
    """
    conf_dirs = [config_dir()]
    problems, sound = check_overrides(overrides, conf_dirs)
    try:
        composition = _composition(sound, conf_dirs, PRIMARY)
    except ProblemsError as error:
        raise ProblemsError([*problems, *error.problems]) from error
    if problems:
        raise ProblemsError(problems)
    return composition


def _composed_problems(
    overrides: Sequence[str], conf_dirs: Sequence[Path], command: Command, there: list[Path], *, quiet: bool
) -> Sequence[str]:
    """Return the problems of what the sound overrides compose; ``quiet`` passes over a failing composition.

    ``there`` gets the directory of the run where it exists.
    """
    try:
        _, settings = _composition(overrides, conf_dirs, command.flags.get("--config-name") or PRIMARY)
    except ProblemsError as error:
        return error.problems
    except UserError as error:
        return [] if quiet else [str(error)]  # a mistake that is named already may have led to it
    if not command.multirun and "--cfg" not in command.flags and int(os.environ.get("RANK", "0")) == 0:
        output = Path(settings.paths.output_dir)
        check_free(output)  # before Hydra writes what it composed there
        there += [output.absolute()] if output.exists() else []
    own = isinstance(settings.launch, PluginSettings)
    if own and command.multirun:
        return [f"launch.name: {settings.launch.name} takes one run at a time: leave out -m"]
    looks = (own or settings.launch.name in ("local", "ray")) and "--cfg" not in command.flags
    tables = [] if own else missing_tables(settings.data)  # a job may have other directories
    return [*missing_components(settings), *tables] if looks else []


def _composition(overrides: Sequence[str], conf_dirs: Sequence[Path], name: str) -> tuple[dict[str, Any], Settings]:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from tabstep.config.compose import composed
    from tabstep.config.resolve import composition_problem

    try:
        config = composed(overrides, conf_dirs, name=name)
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeError, RecursionError) as error:
        raise composition_problem(error) from error
    return config, parse(config)


def _sweep_directory(command: Command) -> list[str]:
    """Make ``paths.output_dir`` of a sweep the directory that holds one directory a run."""
    named = {text.partition("=")[0].lstrip("+"): text.partition("=")[2] for text in command.overrides}
    if not command.multirun or "paths.output_dir" not in named or "hydra.sweep.dir" in named:
        return []
    return [f"hydra.sweep.dir={named['paths.output_dir']}"]


def _compose_and_run(arguments: list[str], there: Collection[Path], *, multirun: bool) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from tabstep.config.resolve import composition_problem

    failures: list[Exception] = []
    places: list[Path] = []
    records = [CommandRecord(directory, HYDRA, (CHECKPOINTS, HISTORY, REPORT)) for directory in there]
    decorate = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=PRIMARY)
    task = decorate(_task(list(sys.argv), failures, places))
    try:
        with _command_line(arguments):
            task()
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        if error in failures or isinstance(error, UserError):
            raise
        raise composition_problem(error) from error
    except OSError as error:
        if error in failures or isinstance(error, BrokenPipeError):
            raise
        raise write_failure(error, "paths.output_dir: cannot be written") from error
    if failures and not multirun:  # a sweep records the failures of its trials
        # a run that could not begin leaves no directory behind
        if isinstance(failures[0], UserError | RetryError):
            _close_logs(places[0])
            discard_unused(places[0], (HYDRA, f"{PRIMARY}.log"), keep=places[0].absolute() in there)
            for record in records:
                record.restore()
        raise failures[0]


def _close_logs(directory: Path) -> None:
    """Take the log files in a directory from their loggers: what is logged later must not look for what has gone."""
    for logger in map(logging.getLogger, (None, "tabstep", "lightning")):
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == directory.absolute():
                logger.removeHandler(handler)
                handler.close()


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """Let Hydra read these arguments, and raise its errors rather than print a report of its own and exit with 1."""
    argv, variable = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [argv[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        if variable is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _task(argv: list[str], failures: list[Exception], places: list[Path]) -> Callable[[DictConfig], float | None]:
    """Return the function that Hydra calls with a composed configuration.

    What it raises is kept in ``failures``, and in ``places`` the directory that Hydra has made.
    """
    shown: set[str] = set()  # of the tables that the trials of a sweep in this process share

    def run_one(cfg: DictConfig) -> float | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        sys.argv = argv  # as it was given: Lightning starts the other ranks with it
        try:
            places.append(Path(HydraConfig.get().runtime.output_dir))
            return _run(cfg, str(places[-1]), shown)
        except Exception as error:
            failures.append(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # the sweeper has to know, and Hydra's line names the job
            return None  # raised again by the caller: Hydra would print a line of its own before it

    return run_one


def _run(cfg: DictConfig, output_dir: str, shown: set[str]) -> float | None:
    from tabstep.config.resolve import plain

    config = plain(cfg)
    config["paths"]["output_dir"] = output_dir  # of this job, absolute, also in a sweep
    settings = parse(config)
    if settings.launch.name != "local":
        return _launch(settings, config)
    # before the import below loads torch, whose threads read it then
    set_omp_wait_policy(os.environ, _AT_START, usage())
    from tabstep.run.run import run

    try:
        return run(settings, redacted(config, os.environ), shown)
    except SystemExit as error:  # of a model, a reader or a metric of somebody else: 0 would be a run that is done
        raise UserError(
            f"code that the run calls ended the process itself (SystemExit: {error.code}): it has to return or to raise"
        ) from error


def _launch(settings: Settings, config: dict[str, Any]) -> float | None:
    """Run as a job, which composes the same overrides from the same conf/ again, or as a launcher of one's own does."""
    from hydra.core.hydra_config import HydraConfig

    from tabstep.launch.dispatch import launch
    from tabstep.launch.foreign_launcher import launch_by

    hydra = HydraConfig.get()
    if isinstance(settings.launch, PluginSettings):
        launch_by(settings.launch, config, list(hydra.overrides.task))
        return None
    sources = {source.provider: Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"}
    if hydra.job.config_name != PRIMARY or sources.get("main") != config_dir():
        raise UserError("--config-name, --config-path: a job has conf/train.yaml of its source: use --config-dir")
    return launch(
        settings, list(hydra.overrides.task), [path for name, path in sources.items() if name == "command-line"]
    )
