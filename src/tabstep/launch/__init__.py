"""From a configuration to a training job on SageMaker; no torch, and the SDK only behind ``sdk``."""
