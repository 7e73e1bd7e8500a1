"""The trials of a sweep as training jobs: each is sent once, followed from anywhere, and fetched when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tabstep.config.parse import parse
from tabstep.config.settings import RemoteSettings, Settings
from tabstep.errors import RetryError, UserError, collecting, raise_problems
from tabstep.launch.follow.watch import ENDED, THEIR_FAULT
from tabstep.launch.prepare_job import Job as Prepared
from tabstep.launch.prepare_job import prepare
from tabstep.launch.request import cost, sdk
from tabstep.launch.request.job_spec import NO_CHECKPOINTS
from tabstep.launch.s3.aws_errors import CredentialsError, code, refusals
from tabstep.launch.s3.download import download
from tabstep.launch.submit import send
from tabstep.sweep.runner_interface import Job, SweepContext, TrialResult
from tabstep.system.exits import say

POLL_SECONDS: Final = 30.0
BACK_OFF: Final = (60.0, 120.0, 300.0, 600.0)
"""Seconds after which a job that the quota refused is sent again; the last one for ever after."""
MOST_ATTEMPTS: Final = 20


@dataclass
class Sent:
    """A trial's job: what was asked for, its name once it is known, and when it is tried again while it is refused."""

    job: Job
    settings: Settings
    prepared: Prepared
    name: str = ""
    refusals: int = 0
    again_at: float = 0.0


@dataclass
class JobRunner:
    """Keeps ``slots`` jobs running.

    Jobs have names that follow from the sweep, the trial and the attempt: a job that is there already, of a sweep
    that was interrupted, is followed instead of being sent again.

    Args:
        stem: of the names, different for each sweep.
        max_usd: what all jobs of the sweep may cost; none is sent that could lead beyond it.
        spent: dollars of trials that have ended before.
        conf_dirs: what ``--config-dir`` named.
        standalone: turns the overrides of a trial into those of one run.
    """

    slots: int
    stem: str
    standalone: Callable[[Sequence[str]], Sequence[str]]
    max_usd: float | None = None
    spent: float = 0.0
    conf_dirs: Sequence[Path] = ()
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    jobs: dict[int, Sent] = field(default_factory=dict)
    elsewhere: bool = True

    def check(self, jobs: Sequence[Job]) -> None:
        """Prepare jobs in full without sending anything.

        Raises:
            ProblemsError: what is wrong with them, one line each.
        """
        problems: list[str] = []
        for job in jobs:
            with collecting(problems):
                problems += self._over_budget(self._prepared(job).prepared, self.spent)
        raise_problems(problems)

    def start(self, job: Job) -> None:
        """Send a job, or find the one that was sent before.

        Raises:
            UserError: AWS refuses for another reason than a quota, or the budget is spent.
        """
        sent = self._prepared(job)
        self.jobs[job.number] = sent
        with self._running_on():
            self._send(sent)

    def wait(self, seconds: float) -> list[TrialResult]:
        """Look at the jobs once, after a while.

        Raises:
            RetryError: the credentials have expired; the jobs run on, and the same command follows them.
        """
        self.sleep(POLL_SECONDS)
        results: list[TrialResult] = []
        for sent in list(self.jobs.values()):
            with self._running_on():
                if not sent.name:
                    self._send(sent)
                elif (result := self._look(sent)) is not None:
                    del self.jobs[sent.job.number]
                    results.append(result)
        return results

    def stop(self) -> None:
        """Leave the jobs running, and say so."""
        names = [sent.name for sent in self.jobs.values() if sent.name]
        if names:
            say(f"{len(names)} jobs run on ({', '.join(names)}): the same command follows them again")
            say("to stop one: aws sagemaker stop-training-job --training-job-name NAME")

    @contextmanager
    def _running_on(self) -> Iterator[None]:
        """Tell credentials that expired while jobs run from those that never were: the same command may go on."""
        try:
            yield
        except CredentialsError as error:
            if any(sent.name for sent in self.jobs.values()):
                raise RetryError(str(error)) from error
            raise

    def _prepared(self, job: Job) -> Sent:
        settings = parse(job.config)
        if not isinstance(settings.launch, RemoteSettings) or settings.launch.name != "sagemaker":
            raise UserError("hydra/launcher=sagemaker: the trials are jobs: add launch=sagemaker")
        name = self.name(job.number, 1)
        given = settings.launch.checkpoint_path
        own = given if given in (None, NO_CHECKPOINTS) else f"{given.rstrip('/')}/{name}"
        one = replace(settings.launch, job_name=name, attach=None, checkpoint_path=own)
        named = replace(settings, launch=one)
        return Sent(job, named, prepare(named, self.standalone(job.overrides), conf_dirs=self.conf_dirs))

    def name(self, number: int, attempt: int) -> str:
        """Return the name of a trial's job."""
        return f"{self.stem}-{number:04d}" + (f"-{attempt}" if attempt > 1 else "")

    def _send(self, sent: Sent) -> None:
        if self.clock() < sent.again_at:
            return
        try:
            name, is_new = self._free_name(sent)
            if not is_new:
                say(f"trial {sent.job.number}: job {name} is there already: following it")
            elif not self._send_new(sent, name):
                return
            sent.name = name
        except RetryError as error:
            self._back_off(sent, str(error))

    def _send_new(self, sent: Sent, name: str) -> bool:
        """Send a job unless it has to wait for the budget or a quota."""
        others = [other.prepared for other in self.jobs.values() if other.name]
        running = sum(other.ceiling.usd or 0.0 for other in others)
        over = self._over_budget(sent.prepared, self.spent + running)
        # nothing runs whose end could free a part of the budget
        if over and not others:
            raise UserError(over[0])
        if over:
            return False
        prepared = sent.prepared
        try:
            job = prepared if prepared.spec.job_name == name else prepared.renamed(name)
            send(job, sdk.boto_session(job.spec.region))
        except UserError as error:
            if code(error) != "ResourceLimitExceeded":
                raise
            self._back_off(sent, str(error))
            return False
        return True

    def _back_off(self, sent: Sent, reason: str) -> None:
        seconds = BACK_OFF[min(sent.refusals, len(BACK_OFF) - 1)]
        sent.refusals += 1
        sent.again_at = self.clock() + seconds
        say(f"trial {sent.job.number}: {reason.splitlines()[0]}: trying again in {seconds:g} s")

    def _over_budget(self, prepared: Prepared, committed: float) -> list[str]:
        usd = prepared.ceiling.usd
        if self.max_usd is None:
            return []
        if usd is None:
            return [f"hydra.launcher.max_usd: {self.max_usd:g} cannot be kept: {prepared.ceiling}"]
        if committed + usd <= self.max_usd:
            return []
        return [
            f"hydra.launcher.max_usd: ${committed:.2f} are spent or bound, and the next job could cost ${usd:.2f}, "
            f"together more than ${self.max_usd:g}: set launch.max_run lower or hydra.launcher.max_usd higher"
        ]

    def _free_name(self, sent: Sent) -> tuple[str, bool]:
        """Return the name of the job to follow, and whether it is yet to be sent."""
        client = sdk.client(sdk.boto_session(sent.prepared.spec.region), "sagemaker")
        # the service never gives a name twice: an attempt that failed has used up its own
        for attempt in range(1, MOST_ATTEMPTS + 1):
            name = self.name(sent.job.number, attempt)
            description = describe(client, name)
            if description is None:
                return name, True
            if not is_repeated(description):
                return name, False
        raise UserError(f"trial {sent.job.number}: {MOST_ATTEMPTS} jobs have failed for want of capacity")

    def _look(self, sent: Sent) -> TrialResult | None:
        """Return the outcome of a job that has ended, its artifact fetched; None while it runs."""
        try:
            client = sdk.client(sdk.boto_session(sent.prepared.spec.region), "sagemaker")
            description = describe(client, sent.name)
        except RetryError as error:
            say(f"trial {sent.job.number}: {error}; the job is not affected")
            return None
        assert description is not None, "a job that was sent is gone"
        return self._ended(sent, description) if description["TrainingJobStatus"] in ENDED else None

    def _ended(self, sent: Sent, description: Mapping[str, Any]) -> TrialResult:
        spec = sent.prepared.spec
        usd = cost.billed(description, spec.region, cost.load_prices(sent.settings.remote.prices)).usd
        self.spent += usd or 0.0
        seconds = float(description.get("TrainingTimeInSeconds", 0.0))
        ended = TrialResult(number=sent.job.number, usd=usd, seconds=seconds, place=sent.name)
        if description["TrainingJobStatus"] != "Completed":
            reason = description.get("FailureReason") or description.get("SecondaryStatus") or "no reason is given"
            return replace(ended, error=f"job {sent.name}: {reason}", lost=is_repeated(description))
        s3 = sdk.client(sdk.boto_session(spec.region), "s3")
        artifact = description["ModelArtifacts"]["S3ModelArtifacts"]
        try:
            download(artifact, s3, sent.job.directory, sent.settings.paths.model, lambda _: None)
        except CredentialsError:  # the model is there, and is fetched when they are too
            raise
        except UserError as error:
            return replace(ended, error=f"job {sent.name}: {error}")
        return ended


def job_runner(max_parallel: int, max_usd: float | None, surroundings: SweepContext) -> JobRunner:
    """Build the runner of a sweep.

    Raises:
        UserError: a number is out of range, or the extra is missing.
    """
    sdk.require()
    if max_parallel < 1:
        raise UserError(f"hydra.launcher.max_parallel: expected a whole number >= 1, got {max_parallel}")
    if max_usd is not None and max_usd <= 0:
        raise UserError(f"hydra.launcher.max_usd: expected dollars > 0, got {max_usd:g}")
    return JobRunner(
        slots=max_parallel,
        stem=surroundings.study,
        max_usd=max_usd,
        spent=surroundings.spent,
        conf_dirs=surroundings.conf_dirs,
        standalone=surroundings.standalone,
    )


def describe(client: Any, name: str) -> Mapping[str, Any] | None:
    """Return the description of a job, or None where there is none.

    Raises:
        UserError: AWS refuses to tell.
        RetryError: it is out of reach.
    """
    from botocore.exceptions import ClientError

    with refusals(f"job {name}"):
        try:
            description: Mapping[str, Any] = client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            # "Requested resource not found", "Could not find": the code alone stands for other mistakes too
            if code(error) in ("ValidationException", "ResourceNotFound") and "not f" in str(error).lower():
                return None
            raise
    return description


def is_repeated(description: Mapping[str, Any]) -> bool:
    """Tell whether a job failed by no fault of its own, so that it is to be sent again under another name."""
    reason = str(description.get("FailureReason", ""))
    return description["TrainingJobStatus"] == "Failed" and reason.startswith(THEIR_FAULT)
