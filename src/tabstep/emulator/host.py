"""One emulated host of a job: the directory tree that the service would mount, and the toolkit's own process on it.

What a container of the service has and a process of this machine has not: a root of its own (``SAGEMAKER_BASE_DIR``
moves it), the name ``algo-1`` in its network, and process number 1, which ignores SIGTERM unless it asks for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TOOLKIT: Final = "sagemaker_pytorch_container.training:main"
# As process 1 of a container: SIGTERM arrives and nothing happens, and the script below it never hears of it.
_PROGRAM: Final = (
    "import signal; signal.signal(signal.SIGTERM, lambda *_: None); "
    "from sagemaker_training.cli.train import main; main()"
)
_NVIDIA_SMI: Final = '#!/bin/sh\nfor i in {indexes}; do echo "GPU $i: rehearsed"; done\n'
_OUTSIDE: Final = ("SM_", "SAGEMAKER_", "TORCHELASTIC_", "PYTHONPATH", "CA_REPOSITORY_ARN", "MASTER_", "HYDRA_")
"""Beginnings of variables of this machine that a container would not have."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host of a job.

    Attributes:
        name: how the job's hosts call it.
        directory: what it lies in; ``ml`` below is its ``/opt/ml``.
        gpus: how many devices its toolkit finds; 0 looks at this machine.
    """

    name: str
    directory: Path
    gpus: int = 0

    @property
    def base(self) -> Path:
        """Its ``/opt/ml``."""
        return self.directory / "ml"

    def prepare(
        self, request: Mapping[str, Any], channels: Mapping[str, Mapping[str, Path]], hosts: Sequence[str]
    ) -> None:
        """Write the tree as a container finds it when it starts; of what an earlier one left, checkpoints stay.

        Args:
            request: of CreateTrainingJob, with the source at a place of this machine.
            channels: files of each channel by their name below it.
            hosts: names of all hosts of the job.
        """
        for name in ("code", "model", "output", "input", "tmp"):
            shutil.rmtree(self.base / name, ignore_errors=True)
        for name in ("code", "model", "output/data", "input/config", "checkpoints"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for name, content in self._configuration(request, hosts).items():
            (self.base / "input" / "config" / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        for channel, files in channels.items():
            for name, file in files.items():
                place(file, self.base / "input" / "data" / channel / name)
        # the toolkit counts the lines of nvidia-smi
        if self.gpus:
            script = self.directory / "bin" / "nvidia-smi"
            script.parent.mkdir(exist_ok=True)
            script.write_text(_NVIDIA_SMI.format(indexes=" ".join(map(str, range(self.gpus)))), encoding="utf-8")
            script.chmod(0o755)

    def start(self, request: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """Start the toolkit; its stdout and stderr are one pipe, as a container's are one log."""
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            cwd=self.directory,
            env=self._environment(request),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _configuration(self, request: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Any]:
        resources = request["ResourceConfig"]
        group = {"instance_group_name": "homogeneousCluster", "instance_type": resources["InstanceType"]}
        inputs = {entry["ChannelName"]: entry for entry in request.get("InputDataConfig", ())}
        return {
            "hyperparameters.json": request["HyperParameters"],
            "resourceconfig.json": {
                "current_host": self.name,
                "current_instance_type": resources["InstanceType"],
                "current_group_name": group["instance_group_name"],
                "hosts": list(hosts),
                "instance_groups": [{**group, "hosts": list(hosts)}],
                "network_interface_name": "lo" if sys.platform == "linux" else "lo0",
            },
            "inputdataconfig.json": {
                name: {
                    "TrainingInputMode": entry.get("InputMode", request["AlgorithmSpecification"]["TrainingInputMode"]),
                    "S3DistributionType": entry["DataSource"]["S3DataSource"].get(
                        "S3DataDistributionType", "FullyReplicated"
                    ),
                    "RecordWrapperType": entry.get("RecordWrapperType", "None"),
                }
                for name, entry in inputs.items()
            },
        }

    def _environment(self, request: Mapping[str, Any]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
        region = json.loads(request["HyperParameters"].get("sagemaker_region", '""'))
        path = [str(Path(sys.executable).parent), own.get("PATH", os.defpath)]
        return {
            **own,
            **request.get("Environment", {}),
            "PATH": os.pathsep.join([str(self.directory / "bin"), *path] if self.gpus else path),
            "SAGEMAKER_BASE_DIR": str(self.base),
            "SAGEMAKER_TRAINING_MODULE": TOOLKIT,
            "SM_STUDIO_LOCAL_MODE": "true",  # do not wait for the name algo-1 in this machine's network
            "TRAINING_JOB_NAME": request["TrainingJobName"],
            "AWS_REGION": region,
            "PYTHONUNBUFFERED": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
        }


def place(source: Path, target: Path) -> None:
    """Give a file a second place: a link, or a copy where there can be none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a container and wait for its end: every process below it, in a session of its own too."""
    import psutil

    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    process.kill()
    for child in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    psutil.wait_procs(below, timeout=10)
