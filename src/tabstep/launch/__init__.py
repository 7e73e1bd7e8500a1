"""From a configuration to a training job on SageMaker; no torch, and the SDK only behind ``sdk``."""

from tabstep.launch.pipeline.check_pipeline import check_pipeline
from tabstep.launch.pipeline.model_hyperparameters import ModelHyperparameters
from tabstep.launch.pipeline.pipeline import PytorchTrainingConfig, PyTorchTrainingStepBuilder
from tabstep.launch.request.job_spec import JobSpec

__all__ = ["JobSpec", "ModelHyperparameters", "PyTorchTrainingStepBuilder", "PytorchTrainingConfig", "check_pipeline"]
