"""Predictions over HTTP: what a request may look like, what the answer looks like, and SageMaker's four functions."""
