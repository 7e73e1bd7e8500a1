"""What an instance type is: whether it exists, and its GPUs."""

from __future__ import annotations

from typing import Any

from tabstep.launch.request.aws_facts import table

_ACCELERATED = ("g", "p", "trn", "inf")


def gpus(instance_type: str) -> int | None:
    """Return the number of GPUs of an instance; None for an accelerated one that the table lacks.

    >>> gpus("ml.g5.12xlarge"), gpus("ml.m5.xlarge"), gpus("ml.trn1.2xlarge")
    (4, 0, None)
    """
    family, size = _family(instance_type)
    sizes: dict[str, Any] | None = table("instances")["gpus"].get(family)
    if sizes is None:
        return None if family.startswith(_ACCELERATED) else 0
    count = sizes.get(size, sizes.get("other"))
    return None if count is None else int(count)


def is_gpu(instance_type: str) -> bool:
    """Tell whether the job needs an image with CUDA."""
    return gpus(instance_type) != 0


def has_local_disk(instance_type: str) -> bool:
    """Tell whether an instance brings its disk along and takes no other.

    >>> has_local_disk("ml.g5.xlarge"), has_local_disk("ml.m5.xlarge")
    (True, False)
    """
    return _family(instance_type)[0] in table("instances")["local_disks"]


def distributed(instance_type: str, instance_count: int, devices: int | str) -> bool:
    """Tell whether torchrun starts the job: with several GPUs in use.

    >>> distributed("ml.g5.12xlarge", 1, 1), distributed("ml.g5.12xlarge", 1, "auto"), distributed("ml.g5.xlarge", 2, 1)
    (False, True, True)
    """
    count = gpus(instance_type)
    if count == 0:
        return False
    return instance_count > 1 or (devices == "auto" and count != 1) or (devices != "auto" and int(devices) > 1)


def _family(instance_type: str) -> tuple[str, str]:
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    return family, size
