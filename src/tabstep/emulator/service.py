"""Runs a CreateTrainingJob request on this machine as the service would: hosts, interruption, failure, archives."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tabstep.container.container import CODE, MAX_REASON
from tabstep.emulator.attempt import Attempt, run_attempt
from tabstep.emulator.host import Host, place
from tabstep.emulator.local_s3 import Files, deposit, file_of
from tabstep.emulator.outcome import Outcome

INTERRUPTED: Final = "interrupted, as spot capacity is: SIGTERM, then SIGKILL; starting again"


def run_request(
    request: Mapping[str, Any],
    bundle: bytes,
    channels: Mapping[str, Files],
    directory: Path,
    *,
    gpus: int = 1,
    changes: Mapping[str, str] | None = None,
    interrupt_after: int | None = None,
    show: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run a job to its end and pack what it leaves.

    Args:
        bundle: what lies at the request's ``sagemaker_submit_directory``.
        channels: files of each channel by their name below it.
        directory: gets the request, the log, a directory for S3 and one for each host.
        gpus: of one instance; what torchrun counts as devices here, as far as there are cores.
        changes: hyperparameters that this machine needs otherwise.
        interrupt_after: epochs after which the capacity is taken away, once; the job then starts again.
    """
    outcome = Outcome(request=request, channels={name: tuple(files.values()) for name, files in channels.items()})
    mounted = _mounted(request, bundle, directory, changes or {})
    if _code_uri(request) is not None:
        source = Path(json.loads(mounted["HyperParameters"]["sagemaker_submit_directory"]))
        channels = {**channels, CODE: {source.name: source}}
    hosts = _hosts(request, directory, gpus)
    (directory / "request.json").write_text(json.dumps(request, indent=2), encoding="utf-8")
    with open(directory / "job.log", "w", encoding="utf-8") as file:

        def hear(host: str, line: str) -> None:
            outcome.log.append(line)
            print(line if len(hosts) == 1 else f"{host} {line}", file=file, flush=True)
            show(line)

        attempt = _attempt(outcome, hosts, mounted, channels, hear, interrupt_after)
        if attempt.end == "interrupted":
            show(INTERRUPTED)
            attempt = _attempt(outcome, hosts, mounted, channels, hear, None)
    _finish(outcome, attempt, hosts, directory)
    return outcome


def _mounted(request: Mapping[str, Any], bundle: bytes, directory: Path, changes: Mapping[str, str]) -> dict[str, Any]:
    """Return the request as the containers get it: the source is read from a file instead of from S3."""
    given = request["HyperParameters"]
    source = file_of(directory, _code_uri(request) or json.loads(given["sagemaker_submit_directory"]))
    source.write_bytes(bundle)
    return {**request, "HyperParameters": {**given, "sagemaker_submit_directory": json.dumps(str(source)), **changes}}


def _code_uri(request: Mapping[str, Any]) -> str | None:
    """Return where the source lies that comes as a channel; None where the toolkit fetches it itself."""
    uri = _source_of(request, CODE).get("S3Uri")
    return None if uri is None else str(uri)


def _source_of(request: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a request says of the objects of a channel; nothing where it has no such channel."""
    channels = request.get("InputDataConfig", ())
    return next((one["DataSource"]["S3DataSource"] for one in channels if one["ChannelName"] == name), {})


def _hosts(request: Mapping[str, Any], directory: Path, gpus: int) -> list[Host]:
    """Return the hosts: several are addresses of this machine, which torchrun can meet at."""
    count = request["ResourceConfig"]["InstanceCount"]
    torchrun = json.loads(request["HyperParameters"].get("sagemaker_torch_distributed_enabled", "false"))
    here = max(1, (os.cpu_count() or 1) // count)
    devices = min(gpus, here) if torchrun else 0
    names = ["algo-1"] if count == 1 else [f"127.0.0.{index + 1}" for index in range(count)]
    return [Host(name=name, directory=directory / f"algo-{i + 1}", gpus=devices) for i, name in enumerate(names)]


def _attempt(
    outcome: Outcome,
    hosts: Sequence[Host],
    mounted: Mapping[str, Any],
    channels: Mapping[str, Files],
    hear: Callable[[str, str], None],
    interrupt_after: int | None,
) -> Attempt:
    started = time.monotonic()
    for index, host in enumerate(hosts):
        own = {name: _part(mounted, name, files, index) for name, files in channels.items()}
        host.prepare(mounted, own, [other.name for other in hosts])
    outcome.stages.append(("Downloading", time.monotonic() - started))
    limit = mounted["StoppingCondition"]["MaxRuntimeInSeconds"]
    attempt = run_attempt(hosts, mounted, hear=hear, interrupt_after=interrupt_after, max_seconds=limit)
    outcome.stages.append(("Training", attempt.seconds))
    if attempt.end == "interrupted":
        outcome.stages.append(("Interrupted", 0.0))
    _share_checkpoints(hosts)
    return attempt


def _part(request: Mapping[str, Any], name: str, files: Files, index: int) -> Files:
    """Return the files of a channel that the host with this number gets: all, or every n-th by key."""
    if _source_of(request, name).get("S3DataDistributionType") != "ShardedByS3Key":
        return files
    return {key: files[key] for key in sorted(files)[index :: request["ResourceConfig"]["InstanceCount"]]}


def _share_checkpoints(hosts: Sequence[Host]) -> None:
    """Give every host the checkpoints of all, as copies of one directory on S3."""
    files = {path.name: path for host in hosts for path in (host.base / "checkpoints").iterdir() if path.is_file()}
    for host in hosts:
        for name, path in files.items():
            if not (host.base / "checkpoints" / name).exists():
                place(path, host.base / "checkpoints" / name)


def _finish(outcome: Outcome, attempt: Attempt, hosts: Sequence[Host], directory: Path) -> None:
    """Read the end of a job from what its hosts left, and pack what the service would upload."""
    started = time.monotonic()
    outcome.exit_codes = attempt.exit_codes
    failed = [host for host in hosts if attempt.exit_codes[host.name] != 0]
    outcome.status = "Stopped" if attempt.end == "out of time" else "Failed" if failed else "Completed"
    if outcome.status == "Failed":
        written = [file for host in failed if (file := host.base / "output" / "failure").is_file()]
        first = min(written, key=lambda file: file.stat().st_mtime_ns, default=None)  # the others fail since it did
        silent = f"AlgorithmError: exit code {attempt.exit_codes[failed[0].name]}"
        outcome.failure = silent if first is None else first.read_text("utf-8", "replace")[:MAX_REASON]
    outcome.places = deposit(outcome.request, [host.base for host in hosts], directory)
    outcome.checkpoints = tuple(sorted((hosts[0].base / "checkpoints").iterdir()))
    outcome.stages.append(("Uploading", time.monotonic() - started))
