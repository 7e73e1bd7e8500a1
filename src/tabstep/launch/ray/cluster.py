"""The connection to a Ray cluster, which a command makes once and ends with."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tabstep.config.settings import RaySettings, Settings
from tabstep.errors import RetryError, UserError
from tabstep.launch.ray.resources import LOCAL, connection, require, shortage
from tabstep.launch.source.bundle import build_bundle
from tabstep.launch.source.requirements import loose_modules
from tabstep.system.exits import say

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a cluster of our own reports to nobody
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # what is printed would be logged a second time
}


@contextmanager
def connected(settings: Settings, runs: int = 1) -> Iterator[None]:
    """Hold a cluster, with this checkout's source on all of its nodes; one that was started here ends with the block.

    Args:
        runs: how many a cluster of our own is made for.

    Raises:
        UserError: Ray is missing, the address is wrong, or this machine has fewer GPUs than are asked for.
        RetryError: the cluster does not answer.
    """
    launch = settings.launch
    assert isinstance(launch, RaySettings)
    require()
    import ray

    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as directory:
        try:
            modules = source_modules(settings, Path(directory))
            with _answers(launch.address), _same_signals():
                ray.init(**connection(launch, modules, runs))
            check_room(launch)
            yield
        finally:
            ray.shutdown()


def source_modules(settings: Settings, directory: Path) -> list[str]:
    """Write this package and the modules of chosen components below ``directory``; return each one's path."""
    bundle = build_bundle(extra_files=loose_modules(settings), installs=False)
    with tarfile.open(fileobj=io.BytesIO(bundle.data)) as tar:
        for member in tar.getmembers():
            if member.name.startswith("src/"):
                stream = tar.extractfile(member)
                assert stream is not None
                file = directory / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(stream.read())
    return sorted(str(path) for path in (directory / "src").iterdir() if path.is_dir() or path.suffix == ".py")


@contextmanager
def _same_signals() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C mean after the block what they did before: Ray takes SIGTERM for a crash."""
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _answers(address: str) -> Iterator[None]:
    """Turn what keeps a cluster from answering into one line."""
    from ray.exceptions import RaySystemError, RuntimeEnvSetupError

    where = f"launch.address={address}"
    try:
        yield
    except RuntimeEnvSetupError as error:
        raise UserError(f"launch.runtime_env: Ray cannot set it up: {_line(error)}") from error
    except (ConnectionError, TimeoutError, RaySystemError) as error:
        hint = "start one with `ray start --head`, or set launch.address=local"
        if address == "auto":
            raise UserError(f"{where}: no cluster runs here: {hint}") from error
        raise RetryError(f"{where}: no cluster answers: {_line(error)}") from error
    except ValueError as error:
        raise UserError(f"{where}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def check_room(launch: RaySettings) -> None:
    """Say what the cluster that is held lacks for a run; one that was started here does not grow.

    Raises:
        UserError: it is of this machine alone.
    """
    import ray

    lack = shortage(launch, ray.cluster_resources())
    if lack is None:
        return
    if launch.address == LOCAL:
        raise UserError(f"launch.workers, launch.gpus_per_worker: this machine is asked for {lack}")
    say(f"launch=ray: the cluster is asked for {lack}: waiting until it grows or others end")
