"""From a configuration to a training job on SageMaker; no torch, and the SDK only behind ``sdk``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabstep.launch.pipeline.limits import check_pipeline as check_pipeline
    from tabstep.launch.pipeline.model_hyperparameters import ModelHyperparameters as ModelHyperparameters
    from tabstep.launch.pipeline.pipeline import PytorchTrainingConfig as PytorchTrainingConfig
    from tabstep.launch.pipeline.pipeline import PyTorchTrainingStepBuilder as PyTorchTrainingStepBuilder
    from tabstep.launch.request.job_spec import JobSpec as JobSpec

__all__ = ["JobSpec", "ModelHyperparameters", "PyTorchTrainingStepBuilder", "PytorchTrainingConfig", "check_pipeline"]
_MODULES = {
    "JobSpec": "tabstep.launch.request.job_spec",
    "ModelHyperparameters": "tabstep.launch.pipeline.model_hyperparameters",
    "PytorchTrainingConfig": "tabstep.launch.pipeline.pipeline",
    "PyTorchTrainingStepBuilder": "tabstep.launch.pipeline.pipeline",
    "check_pipeline": "tabstep.launch.pipeline.limits",
}


def __getattr__(name: str) -> Any:
    # The command line imports `tabstep.container.container` and must not pay for the rest.
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'tabstep.launch' has no attribute {name!r}")
