"""Trial runners: through one of Hydra's launchers in batches, or a process a trial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

import tabstep
from tabstep.errors import EXIT_OK, EXIT_RETRY, EXIT_SIGINT, EXIT_SIGTERM, RetryError, StoppedError, UserError
from tabstep.run_files import REPORT
from tabstep.sweep.compose_trials import Composer, write_hydra_files
from tabstep.sweep.ledger import finite, read_json
from tabstep.sweep.runner_interface import Job, TrialResult

OUTPUT, ERRORS, CONFIG = "output.log", "errors.log", "job.yaml"
PROGRAM: tuple[str, ...] = (sys.executable, "-m", "tabstep.run.worker")
POLL_SECONDS = 0.1
THREADS = "OMP_NUM_THREADS"


@dataclass
class HydraRunner:
    """Hands jobs to a launcher of Hydra's, ``slots`` in a batch: the built-in one runs them in this process."""

    launcher: Launcher
    slots: int
    jobs: list[Job] = field(default_factory=list)
    elsewhere: bool = False

    def check(self, jobs: Sequence[Job]) -> None:
        """Do nothing: a trial here is checked when it is composed."""

    def start(self, job: Job) -> None:
        """Take a job; it runs when it is waited for."""
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[TrialResult]:
        """Run the jobs that were taken."""
        jobs, self.jobs = self.jobs, []
        outcomes: list[TrialResult] = []
        while jobs:
            # A batch has one first number, and the others follow it.
            size = next((i for i in range(1, len(jobs)) if jobs[i].number != jobs[0].number + i), len(jobs))
            batch, jobs = jobs[:size], jobs[size:]
            returns = self.launcher.launch([job.overrides for job in batch], initial_job_idx=batch[0].number)
            outcomes += [
                _with_own_time(job, outcome_of(job.number, each)) for job, each in zip(batch, returns, strict=True)
            ]
        return outcomes

    def stop(self) -> None:
        """Do nothing: no job runs while this is called."""


def _with_own_time(job: Job, outcome: TrialResult) -> TrialResult:
    """Take the time of a trial from its report, where it has one: its batch has waited for the others too."""
    seconds = finite(read_json(job.directory / REPORT).get("seconds")) if outcome.error is None else None
    return replace(outcome, seconds=seconds)


def outcome_of(number: int, job: JobReturn) -> TrialResult:
    """Return what a launcher of Hydra's says about a job."""
    result: Any = job._return_value
    if job.status == JobStatus.COMPLETED:
        return TrialResult(number=number, value=result if isinstance(result, int | float) else None)
    if isinstance(result, BaseException):
        return failed(number, result)
    return TrialResult(number=number, error="the launcher does not know how it ended", lost=True)


def failed(number: int, error: BaseException) -> TrialResult:
    """Return what an exception means for the trial that raised it."""
    if isinstance(error, StoppedError):
        return TrialResult(number=number, stopped=error)
    if isinstance(error, RetryError):
        return TrialResult(number=number, error=str(error), lost=True)
    if isinstance(error, UserError):
        return TrialResult(number=number, error=str(error))
    return TrialResult(
        number=number,
        error=f"{type(error).__name__}: {error}",
        details="".join(traceback.format_exception(error)),
    )


@dataclass(frozen=True)
class Child:
    """A running process, its job, and the number that no other one has at the time."""

    process: subprocess.Popen[bytes]
    job: Job
    slot: int


@dataclass
class ProcessRunner:
    """Starts a process for each job. All of them end with this one, also when it is killed.

    Args:
        inherited: descriptor of the sweep's lock, which they hold too.
        program: run with the job's configuration file and the number of this process.
    """

    slots: int
    inherited: int | None = None
    program: tuple[str, ...] = field(default_factory=lambda: PROGRAM)
    children: dict[int, Child] = field(default_factory=dict)
    stopping: bool = False
    elsewhere: bool = False

    def check(self, jobs: Sequence[Job]) -> None:
        """Do nothing: a trial here is checked when it is composed."""

    def start(self, job: Job) -> None:
        """Start its process; what it prints goes to files in its directory."""
        job.directory.mkdir(parents=True, exist_ok=True)
        write_hydra_files(job)
        file = job.directory / CONFIG
        config = {**job.config, "callbacks": {**job.config["callbacks"], "progress": "lines"}}
        file.touch(mode=0o600)  # an interpolation may have brought a secret into it
        file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        # the lowest that is free: of several GPUs it says which
        slot = min(set(range(self.slots)) - {child.slot for child in self.children.values()})
        # what was printed before a kill stays; of errors, those of the last attempt are shown
        with open(job.directory / OUTPUT, "ab") as output, open(job.directory / ERRORS, "wb") as errors:
            process = subprocess.Popen(
                [*self.program, str(file), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=environment(self.slots, slot, job.config),
                start_new_session=True,  # an interrupt of the terminal reaches this process alone, which passes it on
                pass_fds=() if self.inherited is None else (self.inherited,),
            )
        self.children[job.number] = Child(process, job, slot)

    def wait(self, seconds: float) -> list[TrialResult]:
        """Look at the processes until one has ended or the time is over."""
        ends = time.monotonic() + seconds
        while True:
            ended = [child for child in self.children.values() if child.process.poll() is not None]
            if ended or time.monotonic() > ends or not self.children:
                break
            time.sleep(POLL_SECONDS)
        for child in ended:
            del self.children[child.job.number]
        return [self._outcome(child.job, child.process.returncode) for child in ended]

    def _outcome(self, job: Job, code: int) -> TrialResult:
        said = _text(job.directory / ERRORS)
        # with whatever secret it holds
        (job.directory / CONFIG).unlink(missing_ok=True)
        if code == EXIT_OK:
            return TrialResult(number=job.number)
        # our own signal came before it could be caught
        if code in (EXIT_SIGINT, EXIT_SIGTERM) or (code < 0 and self.stopping):
            signum = signal.SIGINT if code == EXIT_SIGINT else signal.SIGTERM
            return TrialResult(number=job.number, stopped=StoppedError(f"trial {job.number} was stopped", signum))
        if code < 0:
            name = signal.Signals(-code).name
            return TrialResult(
                number=job.number, error=f"its process was killed by {name}, perhaps for want of memory", lost=True
            )
        if code == EXIT_RETRY:
            return TrialResult(number=job.number, error=_last_line(said), lost=True)
        return TrialResult(number=job.number, error=_last_line(said), details=said)

    def stop(self) -> None:
        """Let the processes save their state and end, and wait for them."""
        self.stopping = True
        for child in self.children.values():
            child.process.send_signal(signal.SIGTERM)
        for child in self.children.values():
            child.process.wait()
        self.children.clear()


def process_runner(n_jobs: int, inherited: int | None = None) -> ProcessRunner:
    """Build a runner of ``n_jobs`` processes at a time.

    Raises:
        UserError: there would be none.
    """
    if n_jobs < 1:
        raise UserError(f"hydra.launcher.n_jobs: expected a whole number >= 1, got {n_jobs}")
    return ProcessRunner(n_jobs, inherited)


def environment(slots: int, slot: int, config: dict[str, Any]) -> dict[str, str]:
    """Return the environment of one of ``slots`` processes: its share of the processors, and one of several GPUs.

    The package is found by the process as it was found by this one, also in a plain checkout.
    """
    source = str(Path(tabstep.__file__).resolve().parent.parent)
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    found = {**os.environ, "PYTHONPATH": path}
    threads = max(1, (os.cpu_count() or 1) // slots)
    if slots > 1 and THREADS not in os.environ:
        found[THREADS] = str(threads)
    gpus = visible_gpus()
    if len(gpus) > 1 and config["trainer"]["devices"] == 1 and config["trainer"]["accelerator"] != "cpu":
        found["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return found


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that a process may use, without the seconds that importing torch takes."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def launch_processes(
    context: HydraContext, config: DictConfig, overrides: Sequence[Sequence[str]], first: int, n_jobs: int
) -> list[JobReturn]:
    """Run a batch of jobs in processes for a sweeper other than tabstep's."""
    composer = Composer(context.config_loader, config)
    runner = process_runner(n_jobs)
    jobs = [composer.compose(each, first + index) for index, each in enumerate(overrides)]
    outcomes: dict[int, TrialResult] = {}
    waiting = list(jobs)
    try:
        while len(outcomes) < len(jobs):
            while waiting and len(runner.children) < n_jobs:
                runner.start(waiting.pop(0))
            outcomes |= {outcome.number: outcome for outcome in runner.wait(60.0)}
    finally:
        runner.stop()
    return [_job_return(job, outcomes[job.number]) for job in jobs]


def _job_return(job: Job, outcome: TrialResult) -> JobReturn:
    report = read_json(job.directory / REPORT)
    value = report.get(str(job.config["objective"])) if outcome.error is None else None
    found = JobReturn(overrides=list(job.overrides), cfg=OmegaConf.create(job.config), working_dir=str(job.directory))
    failed = outcome.stopped or (None if outcome.error is None else UserError(outcome.error))
    found.status = JobStatus.COMPLETED if failed is None else JobStatus.FAILED
    found.return_value = value if failed is None else failed
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "its process ended with an error and said nothing"
