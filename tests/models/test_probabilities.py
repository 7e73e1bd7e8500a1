from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tabstep.models.probabilities import member_weights, pooled, probabilities
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


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 4), ("multilabel", 3)])
def test_members_count_by_their_weights(task: Task, outputs: int) -> None:
    logits = 4.0 * torch.randn(6, 3, outputs, generator=torch.Generator().manual_seed(2))
    by_member = by_hand(logits.numpy().astype(np.float64), task)
    expected = (3.0 * by_member[:, 0] + by_member[:, 2]) / 4.0
    found = by_hand(pooled(logits, task, torch.tensor([3.0, 0.0, 1.0])).double().numpy(), task)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    torch.testing.assert_close(pooled(logits, task, 2.0 * torch.ones(3)).softmax(1), pooled(logits, task).softmax(1))
    logits[:, 0] = torch.nan  # what does not count does no harm
    alone = pooled(logits, task, torch.tensor([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(by_hand(alone.double().numpy(), task), by_member[:, 1], atol=1e-6)


def test_only_a_buffer_of_the_model_itself_weighs_its_members() -> None:
    class Foreign(nn.Module):
        def __init__(self, *, buffer: bool) -> None:
            super().__init__()
            if buffer:
                self.register_buffer("member_weights", torch.ones(2))
            else:
                self.member_weights = nn.Parameter(torch.ones(2))

    assert member_weights(nn.Linear(2, 1)) is None
    assert member_weights(Foreign(buffer=False)) is None
    assert member_weights(nn.Sequential(Foreign(buffer=True))) is None
    found = member_weights(Foreign(buffer=True))
    assert found is not None
    assert found.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 2)])
def test_equal_logits_have_equal_probabilities_wherever_they_stand(task: Task, outputs: int) -> None:
    """A baseline that says the same of every row has an AUROC of .5, whatever a processor does at a vector's end."""
    for value in np.linspace(-5, 5, 300):
        logits = torch.zeros(611, outputs)
        logits[:, 0] = float(value)
        found = probabilities(logits, task)
        assert found.dtype == torch.float32
        assert torch.equal(found, found[:1].expand_as(found))
