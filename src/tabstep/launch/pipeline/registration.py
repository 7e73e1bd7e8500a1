"""The trained model in SageMaker's registry, with its scores and what can serve it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tabstep.errors import UserError
from tabstep.launch.request import sdk
from tabstep.launch.request.images import end_of_patch, region_of, serving_uri
from tabstep.system.exits import say

SERVING: Final = {"SAGEMAKER_PROGRAM": "transform.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
"""Variables of a container that serves an artifact; the SDK sends both empty where they are not given."""
CONTENT_TYPES: Final = ("text/csv", "application/json", "application/jsonlines", "application/x-parquet")


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What a registry is told of a model.

    Attributes:
        statistics_uri: address of JSON with the scores, perhaps a pipeline's variable; None for none.
        model_data: address of the artifact, perhaps a variable too; None is that of the training step.
        image_uri: an image whose server takes the functions of ``code/transform.py``; None is AWS's newest.
    """

    model_package_group_name: str
    statistics_uri: Any = None
    model_data: Any = None
    image_uri: str | None = None
    approval_status: str = "PendingManualApproval"
    inference_instances: Sequence[str] = ("ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge")
    transform_instances: Sequence[str] = ("ml.m5.xlarge",)


def register_step(training_step: Any, registration: Registration, session: Any, *, role: str, name: str) -> Any:
    """Return a ``sagemaker.workflow.model_step.ModelStep``.

    The artifact is served as it is: its ``code/transform.py`` is the handler, so nothing is packed again.

    Args:
        session: a pipeline's session of the SDK.

    Raises:
        UserError: the image lies in another region.
    """
    region = session.boto_region_name
    image = registration.image_uri or serving_uri("cpu", region)
    if region_of(image) not in (None, region):
        raise UserError(
            f"image_uri: lies in {region_of(image)}, and a model in {region} takes one of its own region only: copy it "
            "to a registry there, or leave it out for AWS's newest"
        )
    date = end_of_patch(image, None)
    if date is not None and date < datetime.datetime.now(datetime.UTC).date():
        say(f"warning: image_uri: {image} gets no security patches since {date}: leave it out for AWS's newest")
    with sdk.quiet():
        from sagemaker.model import Model
        from sagemaker.model_metrics import MetricsSource, ModelMetrics
        from sagemaker.workflow.model_step import ModelStep

        uri = registration.statistics_uri
        metrics = None if uri is None else ModelMetrics(model_statistics=MetricsSource("application/json", uri))
        model_data = registration.model_data
        if model_data is None:
            model_data = training_step.properties.ModelArtifacts.S3ModelArtifacts
        model = Model(
            image_uri=image,
            model_data=model_data,
            role=role,
            env=SERVING,
            sagemaker_session=session,
        )
        arguments = model.register(
            content_types=list(CONTENT_TYPES),
            response_types=list(CONTENT_TYPES),
            inference_instances=list(registration.inference_instances),
            transform_instances=list(registration.transform_instances),
            model_package_group_name=registration.model_package_group_name,
            approval_status=registration.approval_status,
            model_metrics=metrics,
            domain="MACHINE_LEARNING",
            task="CLASSIFICATION",
        )
        return ModelStep(name=name, step_args=arguments)
