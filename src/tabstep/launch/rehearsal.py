"""The whole job on this machine: the real request, the real bundle and the real toolkit, without AWS and Docker.

Below ``paths.output_dir`` lies ``rehearsal/`` with the request, the log, a directory for S3 and one for each host; the
artifact and the report are unpacked to where a local run has them.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.errors import UserError
from tabstep.launch.attempt import run_attempt
from tabstep.launch.container import MAX_REASON
from tabstep.launch.host import Host, place
from tabstep.launch.instances import gpus
from tabstep.launch.outcome import Outcome
from tabstep.launch.spec import split_uri
from tabstep.lines import parse_line

if TYPE_CHECKING:
    from tabstep.launch.dispatch import Job

INSTALL: Final = 'pip install "tabstep[rehearsal]"'
Files = Mapping[str, Path]


def rehearse(settings: Settings, job: Job) -> float | None:
    """Run a job here, show what the service would have shown, and return the objective's value.

    Raises:
        UserError: the extra is missing, or the job failed: with the reason that the service would have given.
    """
    require_toolkit()
    remote = settings.launch
    assert isinstance(remote, RemoteSettings)
    output = Path(settings.paths.output_dir)
    directory = output / "rehearsal"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    channels: dict[str, Files] = {
        split: {source.name: source.path for source in sources} for split, sources in job.plan.files.items()
    }
    channels |= fetched(job.request, directory / "fetched", without=channels)
    outcome = run_request(
        job.request,
        job.bundle.data,
        channels,
        directory,
        changes=_changes(settings),
        interrupt_after=remote.interrupt_after,
        show=_echo,
    )
    Console(width=None if Console().is_terminal else 140).print(outcome.table())
    for remark in outcome.remarks():
        print(f"remark: {remark}")
    print(f"all of it: {directory}")
    if outcome.status != "Completed":
        raise UserError(outcome.failure or f"the job ended as {outcome.status}: its log is {directory / 'job.log'}")
    report = unpack_artifacts(outcome, output)
    print(f"model: {output / 'model'}")
    value = report.get(settings.objective)
    return None if value is None else float(value)


def run_request(
    request: Mapping[str, Any],
    bundle: bytes,
    channels: Mapping[str, Files],
    directory: Path,
    *,
    changes: Mapping[str, str] | None = None,
    interrupt_after: int | None = None,
    show: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Do what the service does with a CreateTrainingJob request.

    Args:
        bundle: what lies at the request's ``sagemaker_submit_directory``.
        channels: files of each channel by their name below it.
        directory: gets the log, a directory for S3 and one for each host.
        changes: hyperparameters that this machine needs otherwise.
        interrupt_after: epochs after which the capacity is taken away, once; the job then starts again.
    """
    outcome = Outcome(request=request, channels={name: tuple(files.values()) for name, files in channels.items()})
    source = _on_s3(directory, json.loads(request["HyperParameters"]["sagemaker_submit_directory"]))
    source.write_bytes(bundle)
    (directory / "request.json").write_text(json.dumps(request, indent=2), encoding="utf-8")
    own = {"sagemaker_submit_directory": json.dumps(str(source)), **(changes or {})}
    mounted = {**request, "HyperParameters": {**request["HyperParameters"], **own}}
    hosts = _hosts(request, directory)
    with open(directory / "job.log", "w", encoding="utf-8") as file:

        def hear(host: str, line: str) -> None:
            outcome.log.append(line)
            print(line if len(hosts) == 1 else f"{host} {line}", file=file, flush=True)
            show(line)

        interrupts = [interrupt_after, None] if interrupt_after else [None]
        for after in interrupts:
            started = time.monotonic()
            for host in hosts:
                host.prepare(mounted, channels, [each.name for each in hosts])
            outcome.stages.append(("Downloading", time.monotonic() - started))
            attempt = run_attempt(
                hosts,
                mounted,
                hear=hear,
                interrupt_after=after,
                max_seconds=request["StoppingCondition"]["MaxRuntimeInSeconds"],
            )
            outcome.stages.append(("Training", attempt.seconds))
            outcome.exit_codes = attempt.exit_codes
            if attempt.end != "interrupted":
                break
            outcome.stages.append(("Interrupted", 0.0))
            show("interrupted, as spot capacity is: SIGTERM, then SIGKILL; starting again")
            _share_checkpoints(hosts)
    _collect(outcome, hosts, directory, out_of_time=attempt.end == "out of time")
    return outcome


def require_toolkit() -> None:
    """Check that the extra is installed.

    Raises:
        UserError: it is not; says how to install it.
    """
    missing = [
        name for name in ("sagemaker_training", "sagemaker_pytorch_container", "psutil") if find_spec(name) is None
    ]
    if missing:
        raise UserError(f"launch=rehearsal: {' and '.join(missing)} cannot be imported: {INSTALL}")
    if find_spec("pip") is None:
        raise UserError(
            "launch=rehearsal: the toolkit installs requirements.txt with pip, which is not here: install pip"
        )


def fetched(request: Mapping[str, Any], directory: Path, *, without: Mapping[str, Files]) -> dict[str, Files]:
    """Copy the channels of a request that lie on S3 to this machine."""
    found: dict[str, Files] = {}
    for channel in request.get("InputDataConfig", ()):
        name, uri = channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]
        if name not in without:
            found[name] = _download(uri, directory / name)
    return found


def unpack_artifacts(outcome: Outcome, output: Path) -> dict[str, Any]:
    """Put model and results of a finished job where a local run has them, and return its report."""
    for address, file in outcome.places.items():
        with tarfile.open(file, mode="r:gz") as tar:
            if address.endswith("/model.tar.gz"):
                shutil.rmtree(output / "model", ignore_errors=True)
                tar.extractall(output / "model", filter="data")
            else:
                members = [each for each in tar if not each.name.startswith(".") and not each.name.endswith(".log")]
                tar.extractall(output, members=members, filter="data")
    if len(outcome.exit_codes) > 1:  # each host has a directory of its own, the first one's has the report
        for path in (output / min(outcome.exit_codes)).iterdir():
            if not (output / path.name).exists():
                path.rename(output / path.name)
    return dict(json.loads((output / "report.json").read_text(encoding="utf-8")))


def _echo(line: str) -> None:
    """Print what a person follows a run by."""
    if "train_loss" in parse_line(line) or line.startswith(("resume:", "interrupted")):
        print(line, flush=True)


def _changes(settings: Settings) -> dict[str, str]:
    """Return what this machine needs otherwise: no GPU is asked for where there is none."""
    no_gpu = settings.trainer.accelerator == "gpu" and which("nvidia-smi") is None
    return {"trainer.accelerator": "cpu"} if no_gpu else {}


def _hosts(request: Mapping[str, Any], directory: Path) -> list[Host]:
    """Return the hosts: several are addresses of this machine, which torchrun can meet at."""
    resources = request["ResourceConfig"]
    count = resources["InstanceCount"]
    torchrun = json.loads(request["HyperParameters"].get("sagemaker_torch_distributed_enabled", "false"))
    here = max(1, (os.cpu_count() or 1) // count)
    devices = min(gpus(resources["InstanceType"]) or 1, here) if torchrun else 0
    names = ["algo-1"] if count == 1 else [f"127.0.0.{index + 1}" for index in range(count)]
    return [Host(name=name, directory=directory / f"algo-{i + 1}", gpus=devices) for i, name in enumerate(names)]


def _on_s3(directory: Path, uri: str) -> Path:
    """Return the file that stands for an address."""
    file = directory.joinpath("s3", *split_uri(uri))
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _share_checkpoints(hosts: Sequence[Host]) -> None:
    """Give every host the checkpoints of all, as copies of one directory on S3."""
    files = {path.name: path for host in hosts for path in (host.base / "checkpoints").iterdir() if path.is_file()}
    for host in hosts:
        for name, path in files.items():
            if not (host.base / "checkpoints" / name).exists():
                place(path, host.base / "checkpoints" / name)


def _collect(outcome: Outcome, hosts: Sequence[Host], directory: Path, *, out_of_time: bool) -> None:
    """Read the end of a job from what its hosts left, and pack what the service would upload."""
    started = time.monotonic()
    failed = [host for host in hosts if outcome.exit_codes[host.name] != 0]
    outcome.status = "Stopped" if out_of_time else "Failed" if failed else "Completed"
    reasons = [host.base / "output" / "failure" for host in failed]
    if outcome.status == "Failed":
        texts = [file.read_text("utf-8", "replace")[:MAX_REASON] for file in reasons if file.is_file()]
        outcome.failure = next(iter(texts), f"AlgorithmError: exit code {outcome.exit_codes[failed[0].name]}")
    base = (
        f"{outcome.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{outcome.request['TrainingJobName']}/output"
    )
    for name, below in (("model.tar.gz", "model"), ("output.tar.gz", "output/data")):
        trees = [host.base / below for host in hosts if any((host.base / below).iterdir())]
        if trees:
            file = _on_s3(directory, f"{base}/{name}")
            with tarfile.open(file, mode="w:gz", compresslevel=1) as tar:
                for path in sorted(path for tree in trees for path in tree.iterdir()):
                    tar.add(path, arcname=path.name)
            outcome.places[f"{base}/{name}"] = file
    _share_checkpoints(hosts)
    outcome.checkpoints = tuple(sorted((hosts[0].base / "checkpoints").iterdir()))
    outcome.stages.append(("Uploading", time.monotonic() - started))


def _download(uri: str, directory: Path) -> dict[str, Path]:
    from tabstep.launch import sdk

    bucket, prefix = split_uri(uri)
    client = sdk.boto_session("").client("s3")
    found: dict[str, Path] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for each in page.get("Contents", ()):
            name = each["Key"].removeprefix(prefix).lstrip("/") or Path(each["Key"]).name
            if not each["Key"].endswith("/"):
                found[name] = directory / name
                found[name].parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, each["Key"], str(found[name]))
    if not found:
        raise UserError(f"{uri}: there is nothing to read")
    return found
