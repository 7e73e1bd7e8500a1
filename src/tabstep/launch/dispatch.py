"""One command, five places to run: a cluster of Ray, or a job that is prepared, then printed, rehearsed or sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tabstep.config.settings import RaySettings, Settings
from tabstep.errors import UserError
from tabstep.launch.follow.follow_job import follow
from tabstep.launch.follow.follow_tuner import follow_tuner
from tabstep.launch.follow.watch import attach
from tabstep.launch.prepare_job import prepare
from tabstep.launch.ray.fit import run_on_ray
from tabstep.launch.rehearse import rehearse
from tabstep.launch.request import sdk
from tabstep.launch.submit import submit
from tabstep.system.exits import say


def launch(settings: Settings, overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> float | None:
    """Do what ``launch=`` asks for; return the objective's value where the job has ended and told it.

    Args:
        overrides: of the command line, as they were given.
        conf_dirs: what ``--config-dir`` named.

    Raises:
        UserError: the job cannot be sent as it is: every problem, one line each; or it has failed.
    """
    if isinstance(settings.launch, RaySettings):
        return run_on_ray(settings)
    remote = settings.remote
    sdk.require()
    if remote.attach is not None and remote.name == "sagemaker":
        return attach(settings, follow_tuner if remote.tuner else follow)
    if remote.tuner:
        raise UserError("launch.tuner: is for a sweep: add -m and ranges, as hparams_search=optuna has them")
    job = prepare(settings, overrides, conf_dirs=conf_dirs)
    tell(job.warnings, str(job.ceiling), job.bundle.listing() if remote.list_bundle else None)
    if remote.name == "dry_run":
        print(json.dumps(job.request, indent=2, ensure_ascii=False))
        return None
    return rehearse(settings, job) if remote.name == "rehearsal" else submit(settings, job)


def tell(warnings: Sequence[str], ceiling: str, listing: str | None) -> None:
    """Say beside the request what may not be meant, what it can cost, and which files would be sent."""
    for line in warnings:
        say(f"warning: {line}")
    say(f"at most {ceiling}")
    if listing is not None:
        say(listing)
