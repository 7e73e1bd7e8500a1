"""The run inside a SageMaker training container: its files become overrides, its failure a file that is read.

The service lays out one directory tree (``/opt/ml``) and reads back what lies in it at the end:

==========================================  ====================================================
``input/config/hyperparameters.json``       the overrides, see ``tabstep.container.hyperparameters``
``input/config/inputdataconfig.json``       the channels: train, val, test
``input/config/resourceconfig.json``        the hosts
``input/data/<channel>/``                   the tables
``checkpoints/``                            kept when the job is interrupted, there when it starts again
``model/``                                  becomes model.tar.gz
``output/data/``                            becomes output.tar.gz
``output/failure``                          the failure reason, its first 1,024 characters
==========================================  ====================================================

The arguments that the toolkit hands to the script are ignored: they have lost quotes, types and empty values.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tabstep.config.grammar import quoted
from tabstep.container.hyperparameters import unpack, without_local_places
from tabstep.container.statistics import write_statistics
from tabstep.errors import ProblemsError, RetryError, StoppedError, UserError, nearest
from tabstep.run_files import CHECKPOINTS, MODEL, REPORT
from tabstep.schema import SPLITS
from tabstep.system.atomic_write import temporary_beside

MAX_REASON: Final = 1_024
EXTRA_CONF: Final = "conf_extra"
"""Directory of the bundle with the options of ``--config-dir``."""
CODE: Final = "code"
"""Channel with the bundle, where the job has no network to fetch it through: no split."""
TUNED: Final = "_tuning_objective_metric"
"""Hyperparameter that the service adds to each job of a tuner."""


@dataclass(frozen=True)
class Container:
    """The directory tree of one container of a job."""

    base: Path

    @property
    def channels(self) -> dict[str, Path]:
        """Directory of each channel of data by name."""
        names = self._config("inputdataconfig.json")
        return {name: self.base / "input" / "data" / name for name in sorted(names) if name != CODE}

    @property
    def output_data(self) -> Path:
        """Where this container puts what is not the model: hosts of one job do not share a directory."""
        resources = self._config("resourceconfig.json")
        several = len(resources.get("hosts", ())) > 1
        return self.base / "output" / "data" / (str(resources["current_host"]) if several else "")

    @property
    def checkpoints(self) -> Path:
        """Where the job's checkpoints lie: in a directory of the job's own if it is one of a tuner's.

        A tuner gives all of its jobs one place on S3, which the service mirrors: none may go on from another's.
        """
        given = self._config("hyperparameters.json")
        if TUNED not in given:
            return self.base / CHECKPOINTS
        digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]
        return self.base / CHECKPOINTS / (os.environ.get("TRAINING_JOB_NAME") or digest)

    def arguments(self, bundle: Path) -> list[str]:
        """Return the command line of the run: what was launched, in the places of this container.

        Args:
            bundle: the directory with train.py.

        Raises:
            ProblemsError: a channel has a name that no split has, or there is none for the train split.
            UserError: the hyperparameters cannot be read, or hosts have different parts of val or test.
        """
        given = without_local_places(unpack(self._config("hyperparameters.json"), bundle))
        # never, or a path, would begin anew after each interruption
        resume = "must" if "resume=must" in given else "auto"
        launched = [text for text in given if not text.startswith("resume=")]
        flags = [f"--config-dir={bundle / EXTRA_CONF}"] if (bundle / EXTRA_CONF).is_dir() else []
        # the last of two overrides of a key counts
        return [*flags, *launched, "launch=local", "paths=sagemaker", f"resume={resume}", *self._places()]

    def _places(self) -> list[str]:
        """Return what options of any group cannot move: each place of the container as a value of its own."""
        places = {
            "paths.output_dir": self.output_data,
            "paths.checkpoint_dir": self.checkpoints,
            "paths.model_dir": self.base / "model",
        }
        if os.environ.get("SAGEMAKER_BASE_DIR"):  # a tree beside others: nothing of it may be shared
            places["paths.cache_dir"] = self.base / "tmp" / "tabstep"
        texts = [f"{key}={quoted(str(path))}" for key, path in places.items()]
        channels = self.channels
        if channels:
            _check_channels(channels)
            values = {split: quoted(str(channels[split])) if split in channels else "null" for split in SPLITS}
            texts += ["data.path=null", *(f"data.{split}={text}" for split, text in values.items())]
            texts.append(f"data.sharded={str(self._sharded()).lower()}")
        return texts

    def write_failure(self, error: BaseException) -> None:
        """Write why the job failed, unless another rank has said so before: the first cause is the one to read."""
        file = self.base / "output" / "failure"
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(file) as (temporary, _), suppress(FileExistsError):
            temporary.write_text(reason(error, _rank()), encoding="utf-8")
            os.link(temporary, file)  # fails where a rename would replace

    def _sharded(self) -> bool:
        """Tell whether each host has its own part of train's files.

        Raises:
            UserError: val or test are cut up: they are read where they are.
        """
        several = len(self._config("resourceconfig.json").get("hosts", ())) > 1
        inputs = self._config("inputdataconfig.json").items()
        names = [name for name, channel in inputs if several and channel.get("S3DistributionType") == "ShardedByS3Key"]
        for name in names:
            if name != "train":
                raise UserError(
                    f"channel {name!r}: each host has its own part of it, and all are to be scored: set its "
                    "S3DataDistributionType to FullyReplicated"
                )
        return bool(names)

    def _config(self, name: str) -> dict[str, Any]:
        file = self.base / "input" / "config" / name
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{file}: is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise UserError(f"{file}: expected an object, got {type(content).__name__}")
        return content


def current() -> Container | None:
    """Return the container that this process runs in, or None on any other machine."""
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
    return Container(base) if (base / "input" / "config" / "hyperparameters.json").is_file() else None


def command(run: Callable[[Sequence[str]], None], argv: Sequence[str] | None) -> Callable[[], None]:
    """Return what the script does: ``run`` with the command line, or with the job's own where there is a job."""
    container = current() if argv is None else None
    if container is None:
        return lambda: run(sys.argv[1:] if argv is None else argv)

    def job() -> None:
        run(container.arguments(Path(sys.argv[0]).resolve().parent))
        write_statistics(container.output_data / REPORT, container.base / MODEL, container.checkpoints)

    return reporting(job)


def reporting(run: Callable[[], None]) -> Callable[[], None]:
    """Return ``run`` with its failure written where the service reads it; outside a container, ``run`` itself."""
    container = current()
    if container is None:
        return run

    def reported() -> None:
        try:
            run()
        except StoppedError:  # the state is saved: not a failure
            raise
        except BaseException as error:
            container.write_failure(error)
            raise

    return reported


def reason(error: BaseException, rank: str = "") -> str:
    """Return what a person needs to know of an error, at most 1,024 bytes.

    >>> reason(UserError("data.train: is empty"), "rank 1 of 2")
    'rank 1 of 2: data.train: is empty'
    """
    text = f"{rank}: {_message(error)}" if rank else _message(error)
    if len(text.encode()) <= MAX_REASON:
        return text
    kept, more = "", " … (the log has all of it)"
    for line in text.splitlines(keepends=True):
        if len((kept + line).encode()) > MAX_REASON - len(more.encode()):
            break
        kept += line
    kept = kept.rstrip() or text.encode()[: MAX_REASON - len(more.encode())].decode(errors="ignore")
    return kept + more


def _message(error: BaseException) -> str:
    if isinstance(error, UserError | RetryError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"the image has no package {error.name!r}: requirements.txt in the source directory has to install it"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    text = f"{type(error).__name__}: {error}{where}"
    # by its name: torch may not have been imported
    if type(error).__name__ == "OutOfMemoryError":
        return f"the GPU's memory is full: lower data.batch_size or take a larger launch.instance_type: {text}"
    return text


def _rank() -> str:
    world = os.environ.get("WORLD_SIZE", "1")
    return f"rank {os.environ.get('RANK', '0')} of {world}" if world != "1" else ""


def _check_channels(channels: Mapping[str, Path]) -> None:
    problems = [f"channel {name!r}: is no split: {nearest(name, SPLITS)}" for name in channels if name not in SPLITS]
    if "train" not in channels:
        problems.append(f"channel 'train': is missing; the job has {', '.join(channels)}")
    if problems:
        raise ProblemsError(problems)
