"""Sweeps whose trials are SageMaker jobs, or one tuning job."""
