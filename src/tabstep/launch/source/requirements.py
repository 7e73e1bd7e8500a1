"""What the job's image lacks, pinned to what runs here; what it has, torch before all, stays as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from tabstep.config.settings import Settings
from tabstep.errors import UserError
from tabstep.registry import MODELS

REQUIREMENTS: Final = "requirements.txt"
PACKAGES: Final = ("hydra-core", "lightning", "omegaconf", "rich", "safetensors", "torchmetrics")
"""Distributions that SageMaker's PyTorch images do not hold, or not in the version that is needed."""
OF_THE_IMAGE: Final = re.compile(
    r"torch|torchvision|torchaudio|torchtext|torchdata|numpy|pandas|pyarrow|triton|nvidia-.*|cuda-.*|sagemaker.*",
    re.IGNORECASE,
)
"""Distributions that belong to the image: another version of one breaks its CUDA, its toolkit or this package."""
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def job_packages(settings: Settings) -> list[str]:
    """Return the distributions that this configuration needs besides those that every job does."""
    names = [*(settings.baselines or []), *(["tensorboard"] if settings.logger.tensorboard else [])]
    package = MODELS.distribution(settings.model.name)
    return names if package is None else [*names, package.name]


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
