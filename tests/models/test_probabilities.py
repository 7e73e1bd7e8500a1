from __future__ import annotations

import numpy as np
import pytest
import torch

from tabstep.models.probabilities import pooled, probabilities
from tabstep.schema import Task


def by_hand(logits: np.ndarray, task: Task) -> np.ndarray:
    if task == "multiclass":
        odds = np.exp(logits)
        return odds / odds.sum(axis=-1, keepdims=True)
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 4), ("multilabel", 3)])
def test_probabilities_follow_the_formula(task: Task, outputs: int) -> None:
    logits = torch.randn(6, outputs, generator=torch.Generator().manual_seed(0))
    expected = by_hand(logits.numpy().astype(np.float64), task)
    found = probabilities(logits, task).numpy()
    np.testing.assert_allclose(found, expected[:, 0] if task == "binary" else expected, atol=1e-6)


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 4), ("multilabel", 3)])
def test_those_of_members_are_averaged(task: Task, outputs: int) -> None:
    logits = torch.randn(6, 5, outputs, generator=torch.Generator().manual_seed(1))
    expected = by_hand(logits.numpy().astype(np.float64), task).mean(axis=1)
    np.testing.assert_allclose(by_hand(pooled(logits, task).double().numpy(), task), expected, atol=1e-6)
    found = probabilities(logits, task).numpy()
    np.testing.assert_allclose(found, expected[:, 0] if task == "binary" else expected, atol=1e-6)


def test_half_precision_is_left_first() -> None:
    assert probabilities(torch.zeros(2, 3, dtype=torch.bfloat16), "multiclass").dtype == torch.float32
