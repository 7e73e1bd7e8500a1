"""The trained model in SageMaker's registry, with its scores and what can serve it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabstep.launch import sdk
from tabstep.launch.images import serving_uri
from tabstep.launch.spec import JobSpec

CONTENT_TYPES = ("text/csv", "application/json", "application/jsonlines", "application/x-parquet")


def register_step(
    training_step: Any,
    session: Any,
    *,
    spec: JobSpec,
    statistics_uri: Any,
    model_package_group_name: str,
    name: str,
    image_uri: str | None = None,
    approval_status: str = "PendingManualApproval",
    inference_instances: Sequence[str] = ("ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge"),
    transform_instances: Sequence[str] = ("ml.m5.xlarge",),
) -> Any:
    """Return a ``sagemaker.workflow.model_step.ModelStep``.

    The artifact is served as it is: its ``code/inference.py`` is the handler, so nothing is packed again.

    Args:
        statistics_uri: JSON with the scores, or None for none.
        image_uri: of an image with SageMaker's PyTorch inference toolkit; None is AWS's newest.
    """
    with sdk.quiet():
        from sagemaker.model import Model
        from sagemaker.model_metrics import MetricsSource, ModelMetrics
        from sagemaker.workflow.model_step import ModelStep

        metrics = None
        if statistics_uri is not None:
            metrics = ModelMetrics(model_statistics=MetricsSource("application/json", statistics_uri))
        image = image_uri or serving_uri("cpu", spec.region)
        model = Model(
            image_uri=image,
            model_data=training_step.properties.ModelArtifacts.S3ModelArtifacts,
            role=spec.role,
            env={"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"},
            sagemaker_session=session,
            enable_network_isolation=False,  # code/requirements.txt is installed when the server starts
        )
        arguments = model.register(
            content_types=list(CONTENT_TYPES),
            response_types=list(CONTENT_TYPES),
            inference_instances=list(inference_instances),
            transform_instances=list(transform_instances),
            model_package_group_name=model_package_group_name,
            approval_status=approval_status,
            model_metrics=metrics,
            domain="MACHINE_LEARNING",
            task="CLASSIFICATION",
        )
        return ModelStep(name=name, step_args=arguments)
