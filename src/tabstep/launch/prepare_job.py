"""A training job from its settings in one line: data, source, spec, check, request; nothing of it is sent."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabstep.config.settings import RemoteSettings, Settings
from tabstep.container.container import EXTRA_CONF
from tabstep.container.hyperparameters import move_long_to_file, pack, without_local_places
from tabstep.errors import collecting
from tabstep.launch.request import cost, sdk, spec_problems
from tabstep.launch.request.checked_request import ANY_ROLE, checked_request
from tabstep.launch.request.cost import Cost
from tabstep.launch.request.job_spec import JobSpec, Payload, job_spec
from tabstep.launch.s3 import upload
from tabstep.launch.s3.channels import column_problems
from tabstep.launch.s3.upload import UploadPlan
from tabstep.launch.source.bundle import Bundle, build_bundle, extra_conf
from tabstep.launch.source.requirements import job_packages, loose_modules

_NO_BUNDLE = Bundle(data=b"", files={}, digest="0" * 64, commit=None, changed=(), changes_digest=None)
_NO_DATA = UploadPlan(channels={}, locations={}, files={})


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that is ready to be sent: checked, packed, and nothing of it sent."""

    spec: JobSpec
    request: Mapping[str, Any]  # of CreateTrainingJob: printed, rehearsed or sent as it is
    bundle: Bundle
    plan: UploadPlan
    ceiling: Cost
    warnings: tuple[str, ...] = ()

    def renamed(self, name: str) -> Job:
        """Return the same job under another name, with the checkpoints of this one."""
        spec = replace(self.spec, job_name=name)
        return replace(self, spec=spec, request=checked_request(spec))


def prepare(
    settings: Settings,
    overrides: Sequence[str],
    *,
    conf_dirs: Sequence[Path] = (),
    now: datetime.datetime | None = None,
    packages: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> Job:
    """Make a job of settings, without network and without credentials.

    Args:
        conf_dirs: what ``--config-dir`` named.
        now: goes into generated names and paths.
        packages: distributions that others need who share the job's source.
        problems: what is known to be wrong already.

    Raises:
        ProblemsError: everything that is wrong with it, one line each.
    """
    remote = _rehearsed(settings.remote) if settings.remote.name == "rehearsal" else settings.remote
    today = datetime.datetime.now(datetime.UTC)  # `now` may be long ago, and an image is out of date today
    wrong = list(problems)
    plan, bundle, prices = _NO_DATA, _NO_BUNDLE, cost.NO_PRICES
    with collecting(wrong):
        plan = upload.plan(settings.data, remote)
    hyperparameters, files = move_long_to_file(pack(without_local_places(overrides)))
    needed = list(dict.fromkeys([*job_packages(settings), *packages]))
    with collecting(wrong):
        bundle = _bundle(remote, needed, {**loose_modules(settings), **files}, conf_dirs)
    with collecting(wrong):
        prices = cost.load_prices(remote.prices)
    payload = _payload(bundle, plan, hyperparameters)
    spec = job_spec(settings, remote, payload, remote.region or sdk.configured_region() or "", now or today)
    ceiling = cost.ceiling(spec, prices)
    wrong += spec_problems.problems(spec, remote, settings.trainer)
    wrong += column_problems(plan.locations, settings)
    wrong += cost.over_budget(spec, ceiling, {"launch.max_usd": remote.max_usd})
    return Job(
        spec=spec,
        request=checked_request(spec, wrong),
        bundle=bundle,
        plan=plan,
        ceiling=ceiling,
        warnings=tuple(spec_problems.warnings(spec, remote, settings.trainer, today.date())),
    )


def _payload(bundle: Bundle, plan: UploadPlan, hyperparameters: Mapping[str, str]) -> Payload:
    return Payload(
        bundle_digest=bundle.digest,
        hyperparameters=hyperparameters,
        channels=plan.channels,
        local=tuple(plan.files),
        data_digest=plan.digest,
        tags=bundle.tags(),
    )


def _bundle(
    remote: RemoteSettings, packages: Sequence[str], files: Mapping[str, bytes], conf_dirs: Sequence[Path]
) -> Bundle:
    own = {name: content for directory in conf_dirs for name, content in extra_conf(directory, EXTRA_CONF).items()}
    return build_bundle(
        None if remote.source_dir is None else Path(remote.source_dir),
        entry_point=remote.entry_point,
        extra_files={**own, **files},
        packages=packages,
        installs=not remote.network_isolation,
    )


def _rehearsed(remote: RemoteSettings) -> RemoteSettings:
    """Fill in what only AWS looks at: a rehearsal needs no account."""
    region = remote.region or sdk.configured_region() or "us-east-1"
    return replace(remote, role=remote.role or ANY_ROLE, region=region)
