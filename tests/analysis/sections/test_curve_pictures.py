"""Probabilities as they were before their calibration, on a run's curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tabstep.analysis.sections.curve_pictures import uncalibrated


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_temperature_is_taken_back(task: Any) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 3))
    temperature = [1.7, 0.6, 2.0] if task == "multilabel" else [1.7]

    def probs(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if task == "multiclass":
            return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        positive = 1 / (1 + np.exp(-values))
        return np.stack([1 - positive[:, 0], positive[:, 0]], axis=1) if task == "binary" else positive

    found = uncalibrated(probs(logits / temperature).astype(np.float32), temperature, task)
    np.testing.assert_allclose(found, probs(logits), atol=1e-5)
    assert uncalibrated(probs(logits).astype(np.float32), [1.0], task) is None
