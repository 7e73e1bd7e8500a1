"""A sweep as one tuning job of the service: prepared in full, checked, then printed or sent and followed."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.errors import UserError, collecting, raise_problems
from tabstep.launch.dispatch import tell
from tabstep.launch.follow.follow_tuner import follow_tuner, hints
from tabstep.launch.prepare_job import Job, prepare
from tabstep.launch.request import sdk
from tabstep.launch.request.checked_request import checked_tuner_request
from tabstep.launch.request.cost import Cost, over_budget
from tabstep.launch.request.tuner_spec import TunerSpec, ignored, longest, tuner_name, tuner_spec
from tabstep.launch.s3.aws_errors import refusals
from tabstep.launch.source.requirements import job_packages
from tabstep.launch.submit import check_sources, send_parts
from tabstep.sweep.delegated_sweep import Handover
from tabstep.system.exits import say


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A tuning job that is ready to be sent; ``job`` has the source and the data, ``ceiling`` is of all jobs."""

    spec: TunerSpec
    job: Job
    request: Mapping[str, Any]
    ceiling: Cost


def tune(handover: Handover, max_parallel: int, max_usd: float | None) -> list[float]:
    """Do what ``launch=`` asks for with a whole sweep; return the best objective where it is known.

    Args:
        max_parallel, max_usd: jobs at a time, and what all of them may cost.

    Raises:
        ProblemsError: it cannot be sent as it is: one line for each problem.
        UserError: AWS refuses, or no job came to a result.
        StoppedError: Ctrl-C while following; the jobs run on.
    """
    sdk.require()
    remote = handover.settings().launch
    if not isinstance(remote, RemoteSettings):
        raise UserError("launch.tuner: the trials are jobs: add launch=sagemaker, or launch=dry_run to see the request")
    if remote.attach is not None:
        raise UserError("launch.attach: follows one tuner that runs already: leave out -m and the ranges")
    tuning = prepare_tuning(handover, max_parallel, max_usd)
    asked = replace(tuning.spec.job, keep_alive=remote.keep_alive)
    warnings = (*tuning.job.warnings, *ignored(handover.options, asked))
    ceiling = f"{tuning.spec.max_jobs} jobs, together {tuning.ceiling}"
    tell(warnings, ceiling, tuning.job.bundle.listing() if remote.list_bundle else None)
    if remote.name == "dry_run":
        print(json.dumps(tuning.request, indent=2, ensure_ascii=False))
        return []
    value = _submit(handover, remote, tuning)
    return [] if value is None else [value]


def prepare_tuning(
    handover: Handover, max_parallel: int, max_usd: float | None, now: datetime.datetime | None = None
) -> Tuning:
    """Make a tuning job of a sweep, without network and without credentials.

    Raises:
        ProblemsError: everything that is wrong with it, one line each.
    """
    settings, shared = handover.settings(), handover.shared()
    remote = settings.remote
    when = now or datetime.datetime.now(datetime.UTC)
    name = remote.job_name or tuner_name(f"{remote.prefix}-{settings.model.name}", when)
    packages = [package for sample in handover.samples for package in job_packages(sample)]
    jobs: list[Job] = []
    problems: list[str] = []
    for sample in _different(handover):
        own = handover.composer.extra_conf_dirs
        named = replace(sample, launch=replace(remote, job_name=name, keep_alive=None))  # a tuner has no warm pool
        with collecting(problems):
            jobs.append(prepare(named, shared, conf_dirs=own, now=when, packages=packages))
    raise_problems(problems)
    spec = tuner_spec(
        jobs[0].spec,
        handover.space,
        handover.options,
        shared=shared,
        max_epochs=longest(handover.samples, handover.space),
        max_parallel=max_parallel,
    )
    ceiling = _together(jobs[0].ceiling, spec.max_jobs)
    budgets = {"launch.max_usd": remote.max_usd, "hydra.launcher.max_usd": max_usd}
    together = f"{spec.max_jobs} jobs"
    refused = over_budget(spec.job, ceiling, budgets, jobs=together, size="hydra.sweeper.n_trials")
    request = checked_tuner_request(spec, list(refused))
    return Tuning(spec=spec, job=jobs[0], request=request, ceiling=ceiling)


def _different(handover: Handover) -> list[Settings]:
    """Return those of the samples that a job could be refused for otherwise."""
    distinct = {
        repr((sample.data, sample.schema, sample.trainer)): sample
        for sample in (handover.settings(), *handover.samples)
    }
    return list(distinct.values())


def _together(one: Cost, jobs: int) -> Cost:
    return replace(one, hours=jobs * one.hours, usd=None if one.usd is None else jobs * one.usd)


def _submit(handover: Handover, remote: RemoteSettings, tuning: Tuning) -> float | None:
    spec, settings = tuning.spec, handover.settings()
    session = sdk.boto_session(spec.job.region)
    check_sources(settings, tuning.job, session)
    send_parts(tuning.job, session)
    with refusals(f"tuner {spec.name}"):
        sdk.client(session, "sagemaker").create_hyper_parameter_tuning_job(**tuning.request)
    say(f"tuner: {spec.name} was started")
    if not remote.wait:
        say(hints(spec.name, spec.job.region))
        return None
    return follow_tuner(spec.name, session, settings, again=handover.best)
