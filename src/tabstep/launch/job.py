"""What is printed, rehearsed or sent: a job whose every part is made and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tabstep.launch.request.cost import Cost
from tabstep.launch.request.job_spec import JobSpec
from tabstep.launch.s3.upload import UploadPlan
from tabstep.launch.source.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that is ready to be sent: checked, packed, and nothing of it sent."""

    spec: JobSpec
    request: Mapping[str, Any]  # of CreateTrainingJob
    bundle: Bundle
    plan: UploadPlan
    ceiling: Cost
    warnings: tuple[str, ...] = ()
