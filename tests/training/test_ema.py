from __future__ import annotations

import pytest
import torch
from torch import nn

from tabstep.training.ema import WeightAverage


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_equals_a_loop(decay: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, decay=decay)
    expected = [parameter.detach().clone().double() for parameter in model.parameters()]
    for step in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model[1].running_mean.fill_(float(step))
        average.update(model, step)
        share = 1 - min(decay, (1 + step) / (10 + step))
        expected = [
            mine + share * (theirs.detach().double() - mine)
            for mine, theirs in zip(expected, model.parameters(), strict=True)
        ]
    for found, value in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=1e-5)
    assert average.module[1].running_mean.tolist() == [19.0, 19.0]


def test_the_average_is_a_copy_that_is_not_trained() -> None:
    model = nn.Linear(2, 1)
    average = WeightAverage(model, decay=0.9)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert average.module.weight.data_ptr() != model.weight.data_ptr()
