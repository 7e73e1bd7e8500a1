"""What the job's image lacks, pinned to what runs here; what it has, torch before all, stays as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from tabstep.component_source import find_file
from tabstep.config.key_types import plugins
from tabstep.config.settings import LoggerSettings, Settings
from tabstep.errors import UserError

REQUIREMENTS: Final = "requirements.txt"
PACKAGES: Final = ("hydra-core", "lightning", "omegaconf", "rich", "safetensors", "torchmetrics")
"""Distributions that SageMaker's PyTorch images do not hold, or not in the version that is needed."""
OF_THE_IMAGE: Final = re.compile(
    r"torch|torchvision|torchaudio|torchtext|torchdata|numpy|pandas|pyarrow|triton|nvidia-.*|cuda-.*|sagemaker.*",
    re.IGNORECASE,
)
"""Distributions that belong to the image: another version of one breaks its CUDA, its toolkit or this package."""
_ONNX: Final = ("onnx", "onnxruntime", "onnxscript")
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def job_packages(settings: Settings) -> list[str]:
    """Return the distributions that this configuration needs besides those that every job does."""
    names = [*(settings.baselines or []), *logger_packages(settings.logger)]
    names += _ONNX if settings.export == "onnx" else []
    found = [registry.distribution(part.name) for _, registry, part in plugins(settings)]
    own = [package.name for package in found if package is not None]
    return list(
        dict.fromkeys([*names, *(name for name in own if not (OF_THE_IMAGE.fullmatch(name) or name in PACKAGES))])
    )


def logger_packages(logger: LoggerSettings) -> list[str]:
    """Return the distributions that the loggers need.

    A server needs MLflow's small distribution alone, whose requirements leave the image as it is; a database needs all.

    >>> from tabstep.config.settings import LoggerSettings, MlflowSettings
    >>> logger_packages(LoggerSettings(mlflow=MlflowSettings(enabled=True, tracking_uri="https://mlflow.example.com")))
    ['mlflow-skinny']
    """
    names = ["tensorboard"] if logger.tensorboard else []
    if logger.mlflow.enabled:
        where = logger.mlflow.tracking_uri or ""
        names += ["mlflow-skinny"] if where.startswith(("http", "arn:")) else ["mlflow"]
        names += ["sagemaker-mlflow"] if where.startswith("arn:") else []
    return names + (["wandb"] if logger.wandb.enabled else [])


def loose_modules(settings: Settings, directory: str = "src") -> dict[str, bytes]:
    """Return the files of chosen components that no installed package has, by their names below a directory.

    A module lies there alone, a package with all of its Python files.
    """
    files: dict[str, bytes] = {}
    for _, registry, part in plugins(settings):
        target = registry.find(part.name)
        if target is None or registry.distribution(part.name) is not None:
            continue
        top = find_file(target.partition(":")[0].partition(".")[0])
        if top is not None:
            own = sorted(top.parent.rglob("*.py")) if top.name == "__init__.py" else [top]
            root = top.parent.parent if top.name == "__init__.py" else top.parent
            files |= {f"{directory}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in own}
    return files


def job_requirements(given: str, packages: Sequence[str]) -> str:
    """Return the requirements.txt of a job.

    Args:
        given: that of the source directory, which is kept.
        packages: distributions besides ``PACKAGES``.

    Raises:
        UserError: a package of the image is named, or one that is not installed here.
    """
    named = {_normal(match[1]): line for line in given.splitlines() if (match := _NAME.match(line))}
    for name, line in named.items():
        if OF_THE_IMAGE.fullmatch(name):
            raise UserError(
                f"launch.source_dir: {REQUIREMENTS}: {line.strip()!r} would change the image: leave {name} out"
            )
    pins = [f"{name}=={_version(name)}" for name in (*PACKAGES, *packages) if _normal(name) not in named]
    kept = [line for line in given.splitlines() if line.strip()]
    return "\n".join(
        [*kept, "# what runs where the job was launched; torch and what belongs to it stay the image's", *pins, ""]
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"{name}: is not installed, so the version that the job needs is not known: pip install {name}"
        ) from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
