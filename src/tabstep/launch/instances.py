"""What an instance type is: whether it exists, and its GPUs."""

from __future__ import annotations

from typing import Any

from tabstep.launch.tables import table

_ACCELERATED = ("g", "p", "trn", "inf")


def gpus(instance_type: str) -> int | None:
    """Return the number of GPUs of an instance; None for an accelerated one that the table lacks.

    >>> gpus("ml.g5.12xlarge"), gpus("ml.m5.xlarge"), gpus("ml.trn1.2xlarge")
    (4, 0, None)
    """
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    sizes: dict[str, Any] | None = table("instances").get(family)
    if sizes is None:
        return None if family.startswith(_ACCELERATED) else 0
    count = sizes.get(size, sizes.get("other"))
    return None if count is None else int(count)


def is_gpu(instance_type: str) -> bool:
    """Tell whether the job needs an image with CUDA."""
    return gpus(instance_type) != 0
