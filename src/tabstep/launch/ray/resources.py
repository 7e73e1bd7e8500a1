"""What a run asks a Ray cluster for: its workers, their processors, and how often they are started again."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tabstep.config.settings import RaySettings
from tabstep.errors import UserError
from tabstep.run_files import RAY

INSTALL: Final = 'pip install "tabstep[ray]"'
LOCAL: Final = "local"
"""Address of a cluster that is started here and ends with the command."""
STORE_BYTES: Final = 100 * 2**20
"""Memory for Ray's objects in a cluster of our own: a run has none, and Ray would take 30 % of the machine's."""


def require() -> None:
    """Check that the extra is installed, without importing it.

    Raises:
        UserError: it is not; says how to install it.
    """
    if find_spec("ray") is None:
        raise UserError(f"launch=ray: ray cannot be imported: {INSTALL}")


def scaling(launch: RaySettings) -> dict[str, Any]:
    """Return the arguments of Ray's ``ScalingConfig``."""
    resources = {"CPU": launch.cpus_per_worker, **({"GPU": 1} if launch.gpus_per_worker else {})}
    return {
        "num_workers": launch.workers,
        "use_gpu": launch.gpus_per_worker > 0,
        "resources_per_worker": resources,
    }


def storage(output_dir: str) -> Path:
    """Return where Ray Train keeps what it notes of a run: with the run, on storage that all workers see."""
    return Path(output_dir).absolute() / RAY


def needed(launch: RaySettings, runs: int = 1) -> dict[str, int]:
    """Return what ``runs`` at a time need in all.

    >>> needed(RaySettings(workers=2, cpus_per_worker=3), runs=2)
    {'CPU': 12, 'GPU': 0}
    """
    workers = launch.workers * runs
    return {"CPU": workers * launch.cpus_per_worker, "GPU": workers * launch.gpus_per_worker}


def connection(launch: RaySettings, modules: list[str], runs: int = 1) -> dict[str, Any]:
    """Return the arguments of ``ray.init``: a cluster of our own has what ``runs`` at a time need, and no dashboard.

    Args:
        modules: the packages and modules that each worker imports, as paths of this machine.
    """
    environment = {**launch.runtime_env, "py_modules": [*launch.runtime_env.get("py_modules", ()), *modules]}
    common = {
        "address": launch.address,
        "runtime_env": environment,
        "log_to_driver": False,  # the run's own lines come through its files, without Ray's
        "logging_level": "ERROR",
    }
    if launch.address != LOCAL:
        return common
    return {
        **common,
        "_node_ip_address": "127.0.0.1",  # nobody else's: whoever reaches a cluster may run code there
        "num_cpus": needed(launch, runs)["CPU"],
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
    }


def shortage(launch: RaySettings, has: Mapping[str, float]) -> str | None:
    """Say what a cluster lacks of what one run asks for; a cluster that grows may come to have it.

    >>> shortage(RaySettings(workers=4), {"CPU": 2.0})
    '4 CPU of which it has 2'
    """
    asked = needed(launch)
    missing = [name for name, count in asked.items() if count > has.get(name, 0)]
    return " and ".join(f"{asked[name]} {name} of which it has {has.get(name, 0):g}" for name in missing) or None
