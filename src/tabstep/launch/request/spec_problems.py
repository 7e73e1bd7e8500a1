"""What is wrong with a job spec before a request is made of it: role, image, instances, network, secrets."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping

from tabstep.config.settings import RemoteSettings, TrainerSettings
from tabstep.errors import UserError, nearest
from tabstep.launch.request.addresses import place_problems
from tabstep.launch.request.images import end_of_patch, image_uri, is_aws_image, region_of, regions
from tabstep.launch.request.instances import gpus, has_local_disk, is_gpu
from tabstep.launch.request.job_spec import JobSpec
from tabstep.launch.request.overlay import overlay_problems
from tabstep.launch.request.service_model import instance_types
from tabstep.launch.source.secrets import looks_secret

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_REPOSITORY = re.compile(  # domain and repository by the patterns of CodeArtifact's own model
    r"arn:aws[a-z-]*:codeartifact:[a-z0-9-]+:[0-9]{12}:"
    r"repository/[a-z][a-z0-9-]{0,48}[a-z0-9]/[A-Za-z0-9][A-Za-z0-9._-]{1,99}"
)
_OLD_PYTHON = re.compile(r"py(2\d*|3\d?|310)")
_MOST_SECONDS = 28 * 86400
_DEFAULT_VOLUME = 30


def problems(spec: JobSpec, launch: RemoteSettings, trainer: TrainerSettings) -> list[str]:
    """Return one line for each fault of a job; what the service's model limits is in ``service_model``."""
    lines = overlay_problems(spec.request)
    for check in (_identity, place_problems, _times, _network, _source, _secrets):
        lines += check(spec)
    return [*lines, *_image(spec, launch), *_instances(spec, trainer)]


def is_role(arn: str) -> bool:
    """Tell whether a text is the ARN of a role."""
    return _ROLE.fullmatch(arn) is not None


def warnings(spec: JobSpec, launch: RemoteSettings, trainer: TrainerSettings, today: datetime.date) -> list[str]:
    """Return one line for each thing that works, but probably not as it was meant."""
    return [
        *_patch_warning(spec, today),
        *_instance_warnings(spec, trainer),
        *_ignored_warning(spec, launch),
        *_time_warning(spec, trainer),
    ]


def _identity(spec: JobSpec) -> Iterator[str]:
    if not spec.role:
        yield (
            "launch.role: is missing: set it, or the environment variable SAGEMAKER_ROLE, to the ARN of the job's "
            "role, arn:aws:iam::ACCOUNT:role/NAME"
        )
    elif not is_role(spec.role):
        hint = f": `aws iam get-role --role-name {spec.role}` prints it" if re.fullmatch(r"[\w-]+", spec.role) else ""
        yield f"launch.role: expected the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME, got {spec.role!r}{hint}"
    if not spec.region:
        yield "launch.region: is missing: set it, or AWS_REGION, or the region of this machine's AWS configuration"
    elif spec.region not in regions() and spec.image_uri is not None:  # else the image's problem says so
        yield f"launch.region: no such region: {spec.region!r}: {nearest(spec.region, regions())}"


def _times(spec: JobSpec) -> Iterator[str]:
    if spec.max_run > _MOST_SECONDS:
        yield f"launch.max_run: {spec.max_run} s, at most {_MOST_SECONDS} (28 days) are allowed"
    if spec.max_wait is not None and not spec.spot:
        yield "launch.max_wait: is for spot capacity: set launch.spot=true, or launch.max_wait=null"
    if spec.spot and spec.max_wait is not None and spec.max_wait < spec.max_run:
        yield f"launch.max_wait: {spec.max_wait} is less than launch.max_run={spec.max_run}: it counts both"
    if spec.spot and spec.checkpoint_path is None:
        yield "launch.spot: needs checkpoints, or an interruption costs the whole run: set launch.checkpoint_path=null"
    if spec.spot and spec.keep_alive:
        yield "launch.keep_alive: a warm pool cannot hold spot capacity: set launch.keep_alive=null"


def _network(spec: JobSpec) -> Iterator[str]:
    if bool(spec.subnets) != bool(spec.security_group_ids):
        yield "launch.subnets, launch.security_group_ids: a VPC needs both: set the other one too, or none"
    if spec.network_isolation and (spec.image_uri is None or is_aws_image(spec.image_uri)):
        yield (
            "launch.network_isolation: AWS's images lack hydra-core and lightning, and without a network they cannot "
            "be installed: set launch.image_uri to an image that has them"
        )


def _image(spec: JobSpec, launch: RemoteSettings) -> Iterator[str]:
    if not spec.region:
        return
    if spec.image_uri is not None:
        region = region_of(spec.image_uri)
        if region not in (None, spec.region):
            yield (
                f"launch.image_uri: lies in {region}, and a job in {spec.region} takes one of its own region only: "
                f"copy it to a registry there, or set launch.region={region}"
            )
        return
    if spec.framework_version is None and spec.py_version is None:
        try:
            image_uri(launch.torch, "gpu" if is_gpu(spec.instance_type) else "cpu", spec.region)
        except UserError as error:
            yield str(error)
    elif spec.framework_version is None or spec.py_version is None:
        yield "launch.framework_version, launch.py_version: set both, as 2.8.0 and py312, or neither"
    elif _OLD_PYTHON.fullmatch(spec.py_version):
        yield f"launch.py_version: {spec.py_version} is too old for tabstep, which needs Python 3.11: 2.8.0 has py312"


def _source(spec: JobSpec) -> Iterator[str]:
    arn = spec.environment.get("CA_REPOSITORY_ARN")
    if arn is not None and not _REPOSITORY.fullmatch(arn):
        yield (
            "launch.ca_repository_arn: expected arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY (2 to "
            f"50 small letters, digits and dashes; 2 to 100 letters, digits, dots, dashes and underscores), got {arn!r}"
        )


def _secrets(spec: JobSpec) -> Iterator[str]:
    texts: Mapping[str, Mapping[str, str]] = {
        "hyperparameter": spec.hyperparameters,
        "launch.environment": spec.environment,
        "launch.tags": spec.tags,
    }
    for kind, values in texts.items():
        for name, text in values.items():
            if why := looks_secret(name, text):
                yield (
                    f"{kind} {name}: looks like a secret ({why}), and everyone who may see the job can read it: keep "
                    "it in Secrets Manager and let the job's role fetch it"
                )


def _instances(spec: JobSpec, trainer: TrainerSettings) -> Iterator[str]:
    known = instance_types()
    count = gpus(spec.instance_type)
    if spec.instance_type not in known:
        near = nearest(spec.instance_type, known)
        yield f"launch.instance_type: no such training instance: {spec.instance_type!r}: {near}"
    elif spec.instance_type.startswith(("ml.trn", "ml.inf")):
        yield f"launch.instance_type: {spec.instance_type} has no GPU that torch's images can use: take ml.g5.xlarge"
    elif count is not None:
        yield from _fit(spec, trainer, count)
    if spec.volume_kms_key is not None and has_local_disk(spec.instance_type):
        yield (
            f"launch.volume_kms_key: {spec.instance_type} has a disk of its own, which is always encrypted, and the "
            "service takes no key for it: set launch.volume_kms_key=null"
        )


def _fit(spec: JobSpec, trainer: TrainerSettings, count: int) -> Iterator[str]:
    """Match GPUs with devices: torchrun starts one process for every GPU of an instance, never fewer."""
    many = spec.instance_count > 1
    if trainer.accelerator == "gpu" and count == 0:
        yield f"launch.instance_type: {spec.instance_type} has no GPU, but trainer.accelerator=gpu: take ml.g5.xlarge"
    if many and count == 0:
        yield (
            f"launch.instance_count: {spec.instance_count} instances need GPUs, {spec.instance_type} has none: "
            "set launch.instance_count=1 or take ml.g5.xlarge"
        )
    elif trainer.devices != "auto" and (trainer.devices > 1 or many) and 0 < count != trainer.devices:
        yield (
            f"trainer.devices: {trainer.devices} on {spec.instance_type}, whose {count} GPUs run one process each: "
            "set trainer.devices=auto"
        )


def _patch_warning(spec: JobSpec, today: datetime.date) -> Iterator[str]:
    date = end_of_patch(spec.image_uri, spec.framework_version)
    if date is not None and date < today:
        image = spec.image_uri or f"PyTorch {spec.framework_version}"
        yield f"launch.image_uri: {image} gets no security patches since {date}: launch.torch has newer ones"


def _instance_warnings(spec: JobSpec, trainer: TrainerSettings) -> Iterator[str]:
    count = gpus(spec.instance_type) or 0
    if count > 1 and trainer.devices == 1 and spec.instance_count == 1:
        yield (
            f"launch.instance_type: {spec.instance_type} has {count} GPUs and trainer.devices=1 uses one: "
            "set trainer.devices=auto, or take a type with one GPU, such as ml.g5.xlarge"
        )
    if spec.volume_size != _DEFAULT_VOLUME and has_local_disk(spec.instance_type):
        yield f"launch.volume_size: has no effect: {spec.instance_type} has a disk of its own"
    if count and trainer.accelerator == "cpu":
        yield f"launch.instance_type: {spec.instance_type} has GPUs, but trainer.accelerator=cpu: take ml.m5.xlarge"


def _time_warning(spec: JobSpec, trainer: TrainerSettings) -> Iterator[str]:
    if trainer.max_time is not None and trainer.max_time * 3600 >= spec.max_run:
        yield (
            f"launch.max_run: {spec.max_run} s end the job before trainer.max_time={trainer.max_time:g} h would let it "
            "save and stop: set launch.max_run higher"
        )


def _ignored_warning(spec: JobSpec, launch: RemoteSettings) -> Iterator[str]:
    if spec.network_isolation and "CA_REPOSITORY_ARN" in spec.environment:
        yield "launch.ca_repository_arn: has no effect, for launch.network_isolation=true lets the job install nothing"
    if launch.input_path is not None and spec.input_path is None:
        yield "launch.input_path: has no effect: the data lies on S3 and is used where it is"
    if spec.sharded and spec.instance_count == 1:
        yield "launch.sharded: has no effect on one instance"
    elif spec.sharded and spec.input_mode == "FastFile":
        yield (
            "launch.sharded: instances copy each other's files, which launch.input_mode=FastFile would stream: set "
            "one of them"
        )
    if spec.debugger and spec.checkpoint_path is not None:
        yield (
            "launch.debugger: has no effect, for the SDK leaves it out of a job that keeps checkpoints: set "
            "launch.checkpoint_path=none, or launch.debugger=false"
        )
    if launch.image_uri is not None and (launch.framework_version or launch.py_version):
        yield "launch.framework_version, launch.py_version: have no effect beside launch.image_uri"
