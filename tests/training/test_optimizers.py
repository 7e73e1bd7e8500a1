from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from tabstep.errors import UserError
from tabstep.models import build_model
from tabstep.training.optimizers import build_optimizer, parameter_groups

OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 1e-2, "weight_decay": 0.1, "betas": [0.8, 0.95]},
    "sgd": {"lr": 1e-2, "weight_decay": 0.1, "momentum": 0.9, "nesterov": True},
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1))


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> None:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_equal_torchs_own(name: str, fused: bool) -> None:
    ours, theirs = network(), network()
    train(ours, build_optimizer(name, ours, fused=fused, **OPTIONS[name]))
    options = OPTIONS[name] | {"weight_decay": 0.0}
    weights = [theirs[0].weight, theirs[2].weight]
    others = [p for p in theirs.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": 0.1}, {"params": others}]
    if name == "adamw":
        train(theirs, AdamW(groups, **(options | {"betas": (0.8, 0.95)})))
    else:
        train(theirs, SGD(groups, **options))
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-7)


def test_matrices_decay_and_vectors_do_not() -> None:
    options = {"width": 8, "depth": 1, "dropout": 0.0, "num_bins": 4, "embedding_dim": 4}
    model = build_model("mlp", num_numeric=2, cardinalities=[5], num_outputs=1, **options)
    decayed, others = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert others["weight_decay"] == 0.0
    assert {id(p) for p in decayed["params"]} == {id(p) for n, p in model.named_parameters() if not n.endswith("bias")}
    assert {id(p) for p in others["params"]} == {id(p) for n, p in model.named_parameters() if n.endswith("bias")}


def test_frozen_parameters_are_left_out() -> None:
    module = network()
    module[0].requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(module, 0.1)) == 4


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_fused_where_the_device_has_it(name: str) -> None:
    assert build_optimizer(name, network(), **OPTIONS[name]).defaults["fused"] is True
    assert build_optimizer(name, network().to("meta"), **OPTIONS[name]).defaults["fused"] is False


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer\.name: no optimizer is called 'adamv'; did you mean 'adamw'\?"):
        build_optimizer("adamv", network(), lr=1.0)
