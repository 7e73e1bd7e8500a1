"""Experiment trackers: a run's parameters, scores and results in MLflow and Weights & Biases."""
