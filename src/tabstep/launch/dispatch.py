"""One command, four places to run: prepares a job in full, checks all of it, then prints, rehearses or sends it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.container.container import EXTRA_CONF
from tabstep.container.hyperparameters import for_job, pack, spill
from tabstep.errors import ProblemsError, UserError
from tabstep.launch.job import Job
from tabstep.launch.request import cost, limits, render, sdk, validate
from tabstep.launch.request.job_spec import JobSpec, Payload, job_spec
from tabstep.launch.s3 import upload
from tabstep.launch.s3.upload import UploadPlan
from tabstep.launch.source.bundle import Bundle, build_bundle, extra_conf
from tabstep.launch.source.requirements import job_packages
from tabstep.system.exits import say

T = TypeVar("T")
_ANY_ROLE = "arn:aws:iam::000000000000:role/any"
_NO_BUNDLE = Bundle(data=b"", files={}, digest="0" * 64, commit=None, changed=(), changes_digest=None)


def launch(settings: Settings, overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> float | None:
    """Do what ``launch=`` asks for; return the objective's value where the job has ended and told it.

    Args:
        overrides: of the command line, as they were given.
        conf_dirs: what ``--config-dir`` named.

    Raises:
        UserError: the job cannot be sent as it is: every problem, one line each; or it has failed.
    """
    remote = settings.launch
    assert isinstance(remote, RemoteSettings)
    sdk.require()
    if remote.attach is not None and remote.name == "sagemaker":
        from tabstep.launch.follow.job import attach
        from tabstep.launch.follow.tuner import attach_tuner

        return attach_tuner(settings) if remote.tuner else attach(settings)
    if remote.tuner:
        raise UserError("launch.tuner: is for a sweep: add -m and ranges, as hparams_search=optuna has them")
    job = prepare(settings, overrides, conf_dirs=conf_dirs)
    for line in job.warnings:
        say(f"warning: {line}")
    say(f"at most {job.ceiling}")
    if remote.list_bundle:
        say(job.bundle.listing())
    return _run(settings, remote, job)


def prepare(
    settings: Settings,
    overrides: Sequence[str],
    *,
    conf_dirs: Sequence[Path] = (),
    now: datetime.datetime | None = None,
    packages: Sequence[str] = (),
) -> Job:
    """Make a job of settings, without network and without credentials.

    Args:
        packages: distributions that others need who share the job's source.

    Raises:
        ProblemsError: everything that is wrong with it, one line each.
    """
    assert isinstance(settings.launch, RemoteSettings)
    remote = _rehearsed(settings.launch) if settings.launch.name == "rehearsal" else settings.launch
    when = now or datetime.datetime.now(datetime.UTC)
    found: list[str] = []
    plan = _found(lambda: upload.plan(settings.data, remote), found) or upload.UploadPlan(channels={}, files={})
    hyperparameters, files = spill(pack(for_job(overrides)))
    needed = list(dict.fromkeys([*job_packages(settings), *packages]))
    bundle = _found(lambda: _bundle(remote, needed, files, conf_dirs), found) or _NO_BUNDLE
    prices = _found(lambda: cost.load_prices(remote.prices), found) or {}
    payload = Payload(
        bundle_digest=bundle.digest,
        hyperparameters=hyperparameters,
        channels=plan.channels,
        local=tuple(plan.splits),
        data_digest=plan.digest,
        tags=bundle.tags(),
    )
    spec = completed_spec(settings, remote, payload, when)
    found += validate.problems(spec, remote, settings.trainer)
    found += column_problems(plan, settings)
    found += cost.over_budget(spec, remote.max_usd, prices)
    request, refused = checked_request(spec, sound=not found)
    if found or refused:
        raise ProblemsError(list(dict.fromkeys([*found, *refused])))
    warnings = validate.warnings(spec, remote, settings.trainer, when.date())
    ceiling = cost.ceiling(spec, prices)
    return Job(spec=spec, request=request, bundle=bundle, plan=plan, ceiling=ceiling, warnings=tuple(warnings))


def completed_spec(settings: Settings, remote: RemoteSettings, payload: Payload, now: datetime.datetime) -> JobSpec:
    """Return the spec of settings, with what follows from the other groups and from this machine."""
    return job_spec(
        remote,
        payload,
        model=settings.model.name,
        distributed=validate.distributed(remote.instance_type, remote.instance_count, settings.trainer.devices),
        region=remote.region or sdk.configured_region() or "",
        now=now,
    )


def checked_request(spec: JobSpec, *, sound: bool = True) -> tuple[dict[str, Any], list[str]]:
    """Return the request of a job and what the service's model refuses in it.

    Without ``sound``, the spec has known faults, and what the SDK says of them is left out.

    Raises:
        UserError: the SDK cannot make a request of it.
    """
    if not spec.region:
        return {}, []
    try:
        request = render.request(_renderable(spec))
    except (ValueError, TypeError, RuntimeError) as error:
        if not sound:
            return {}, []
        raise UserError(f"launch: the SDK refuses the job: {error}") from error
    return request, limits.violations(request)


def _renderable(spec: JobSpec) -> JobSpec:
    """Replace what keeps the SDK from making a request at all, so that its other faults are found too."""
    role = spec.role if validate.is_role(spec.role) else _ANY_ROLE
    versions = spec.framework_version is not None and spec.py_version is not None
    image = spec.image_uri or (None if versions else "any")
    whole = spec if spec.subnets and spec.security_group_ids else replace(spec, subnets=(), security_group_ids=())
    return replace(whole, role=role, image_uri=image)


def column_problems(plan: UploadPlan, settings: Settings) -> list[str]:
    """Return the declared columns that a split's local files lack; tables on S3 are looked at before a job is sent."""
    hive = settings.data.partitioning == "hive"
    problems: list[str] = []
    columns: dict[str, list[str]] = {}
    for split, files in plan.splits.items():
        found = [_found(partial(_columns, split, file, hive), problems) for file in files]
        read = [names for names in found if names is not None]
        columns |= {split: [name for name in read[0] if all(name in names for names in read)]} if read else {}
    return problems + validate.missing_columns(columns, validate.declared_columns(settings.schema))


def _columns(split: str, file: Path, hive: bool) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"data.{split}: {file} cannot be read: {str(error).splitlines()[0]}") from error
    return names + [part.partition("=")[0] for part in file.parent.parts if hive and "=" in part]


def _rehearsed(remote: RemoteSettings) -> RemoteSettings:
    """Fill in what only AWS looks at: a rehearsal needs no account."""
    region = remote.region or sdk.configured_region() or "us-east-1"
    return replace(remote, role=remote.role or _ANY_ROLE, region=region)


def _found(make: Callable[[], T], problems: list[str]) -> T | None:
    """Return what ``make`` returns; what it finds wrong joins the other problems."""
    try:
        return make()
    except UserError as error:
        problems += error.problems if isinstance(error, ProblemsError) else [str(error)]
        return None


def _bundle(
    remote: RemoteSettings, packages: Sequence[str], files: Mapping[str, bytes], conf_dirs: Sequence[Path]
) -> Bundle:
    own = {name: content for directory in conf_dirs for name, content in extra_conf(directory, EXTRA_CONF).items()}
    return build_bundle(
        None if remote.source_dir is None else Path(remote.source_dir),
        entry_point=remote.entry_point,
        extra_files={**own, **files},
        packages=packages,
    )


def _run(settings: Settings, remote: RemoteSettings, job: Job) -> float | None:
    if remote.name == "dry_run":
        print(json.dumps(job.request, indent=2, ensure_ascii=False))
        return None
    if remote.name == "rehearsal":
        from tabstep.launch.rehearsal.rehearsal import rehearse

        return rehearse(settings, job)
    from tabstep.launch.submit import submit

    return submit(settings, job)
