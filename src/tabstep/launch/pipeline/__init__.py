"""Trainings as steps of a SageMaker pipeline."""
