"""Checks the request of a job as it will be sent, byte for byte: rendered once, held against the service's model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tabstep.errors import UserError, raise_problems
from tabstep.launch.request import render, service_model, spec_problems
from tabstep.launch.request.job_spec import JobSpec
from tabstep.launch.request.overlay import named

if TYPE_CHECKING:
    from tabstep.launch.request.tuner_spec import TunerSpec

ANY_ROLE = "arn:aws:iam::000000000000:role/any"


def checked_request(spec: JobSpec, problems: Sequence[str] = ()) -> dict[str, Any]:
    """Return the CreateTrainingJob request of a job.

    Args:
        problems: what is known to be wrong with the job; with it the SDK's own complaints are left out.

    Raises:
        ProblemsError: everything that is wrong with it, one line each.
        UserError: the SDK cannot make a request of it.
    """
    try:
        request = render.request(_renderable(spec)) if spec.region else {}
    except UserError:  # which is a ValueError too, and no complaint of the SDK's
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        if not problems:
            raise UserError(f"launch: the SDK refuses the job: {error}") from error
        request = {}
    wrong = named(service_model.violations(request), spec.request) if request else ()
    raise_problems([*problems, *wrong])
    return request


def checked_tuner_request(spec: TunerSpec, problems: Sequence[str] = ()) -> dict[str, Any]:
    """Return the CreateHyperParameterTuningJob request of a tuning job, as ``checked_request`` does."""
    request = render.tuner_request(spec)
    wrong = named(service_model.violations(request, "CreateHyperParameterTuningJobRequest"), spec.job.request)
    if "ResourceConfig" in spec.job.request:
        wrong.append(
            "launch.request.ResourceConfig: a tuner's jobs have instances of one type: set launch.instance_type"
        )
    raise_problems([*wrong, *problems])
    return request


def _renderable(spec: JobSpec) -> JobSpec:
    """Replace what keeps the SDK from making a request at all, so that its other faults are found too."""
    role = spec.role if spec_problems.is_role(spec.role) else ANY_ROLE
    versions = spec.framework_version is not None and spec.py_version is not None
    image = spec.image_uri or (None if versions else "any")
    whole = spec if spec.subnets and spec.security_group_ids else replace(spec, subnets=(), security_group_ids=())
    return replace(whole, role=role, image_uri=image)
