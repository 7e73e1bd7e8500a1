"""The whole job on this machine: the real request, the real bundle and the real toolkit, without AWS and Docker.

Below ``paths.output_dir`` lies ``rehearsal/`` with the request, the log, a directory for S3 and one for each host; the
artifact and the report are unpacked to where a local run has them.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rich.console import Console

from tabstep.config.settings import Settings
from tabstep.emulator.local_s3 import Files
from tabstep.emulator.outcome import Outcome
from tabstep.emulator.service import INTERRUPTED, run_request
from tabstep.errors import UserError
from tabstep.launch.archives import objective, place_model, place_results
from tabstep.launch.prepare_job import Job
from tabstep.launch.request.instances import gpus
from tabstep.launch.request.overlay import instances
from tabstep.launch.s3.download import fetch_channels
from tabstep.log_lines import parse_line

INSTALL: Final = 'pip install "tabstep[rehearsal]"'


def rehearse(settings: Settings, job: Job) -> float | None:
    """Run a job here, show what the service would have shown, and return the objective's value.

    Raises:
        UserError: the extra is missing, there are several types of instances, or the job failed: with the reason that
            the service would have given.
    """
    require_toolkit()
    if instances(job.spec.request):
        raise UserError(
            "launch.request.ResourceConfig: a rehearsal has instances of launch.instance_type alone: leave it out, or "
            "set launch=dry_run to see the request"
        )
    output = Path(settings.paths.output_dir)
    directory = output.absolute() / "rehearsal"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    channels: dict[str, Files] = {
        split: {source.name: source.path for source in sources} for split, sources in job.plan.files.items()
    }
    channels |= fetch_channels(job.request, directory / "fetched", without=channels)
    outcome = run_request(
        job.request,
        job.bundle.data,
        channels,
        directory,
        gpus=gpus(job.spec.instance_type) or 1,
        changes=_changes(settings.trainer.accelerator),
        interrupt_after=settings.remote.interrupt_after,
        show=_echo,
    )
    _show(outcome, directory)
    if outcome.status != "Completed":
        raise UserError(outcome.failure or f"the job ended as {outcome.status}: its log is {directory / 'job.log'}")
    for address, archive in outcome.places.items():
        if address.endswith("/model.tar.gz"):
            place_model(archive, output, settings.paths.model, print)
        else:
            place_results(archive, output, print)
    return objective(output, settings.objective)


def require_toolkit() -> None:
    """Check that the extra is installed.

    Raises:
        UserError: it is not; says how to install it.
    """
    needed = ("sagemaker_training", "sagemaker_pytorch_container", "psutil")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise UserError(f"launch=rehearsal: {' and '.join(missing)} cannot be imported: {INSTALL}")
    if find_spec("pip") is None:
        raise UserError("launch=rehearsal: the toolkit installs requirements.txt with pip: install pip")


def _changes(accelerator: str) -> dict[str, str]:
    """Return what this machine needs otherwise: no GPU is asked for where there is none."""
    no_gpu = accelerator == "gpu" and shutil.which("nvidia-smi") is None
    return {"trainer.accelerator": "cpu"} if no_gpu else {}


def _echo(line: str) -> None:
    """Print what a person follows a run by."""
    if "train_loss" in parse_line(line) or line.startswith("resume:") or line == INTERRUPTED:
        print(line, flush=True)


def _show(outcome: Outcome, directory: Path) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(outcome.table())
    for remark in outcome.remarks():
        print(f"remark: {remark}")
    print(f"all of it: {directory}")
