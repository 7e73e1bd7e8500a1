from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from tabstep.errors import UserError
from tabstep.models import build_model
from tabstep.training.optimizers import (
    NEWTON_SCHULZ,
    Muon,
    build_optimizer,
    drop_smallest,
    hidden_matrices,
    orthogonalize,
    parameter_groups,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 1e-2, "weight_decay": 0.1, "betas": [0.8, 0.95]},
    "muon": {
        "lr": 1e-2,
        "hidden_lr": 2e-2,
        "weight_decay": 0.1,
        "hidden_weight_decay": 0.2,
        "betas": [0.8, 0.95],
        "momentum": 0.9,
    },
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


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_fused_where_the_device_has_it(name: str) -> None:
    assert build_optimizer(name, network(), **OPTIONS[name]).defaults["fused"] is True
    assert build_optimizer(name, network().to("meta"), **OPTIONS[name]).defaults["fused"] is False


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer\.name: no optimizer is called 'adamv'; did you mean 'adamw'\?"):
        build_optimizer("adamv", network(), lr=1.0)


@pytest.mark.parametrize("fused", [True, False])
def test_muon_steps_embeddings_output_and_vectors_as_adamw(fused: bool) -> None:
    ours, theirs = deep_network(), deep_network()
    train(ours, build_optimizer("muon", ours, fused=fused, **OPTIONS["muon"] | {"hidden_lr": 0.0}))
    theirs[2].weight.requires_grad_(False)
    theirs[0].weight.requires_grad_(False)
    train(theirs, build_optimizer("adamw", theirs, fused=fused, **OPTIONS["adamw"]))
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, expected)


def deep_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 1))


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16)])
def test_a_hidden_matrix_steps_as_torchs_muon(shape: tuple[int, int]) -> None:
    """torch computes in bfloat16, which knows two to three digits."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    group = {"params": [ours], "hidden": True, "weight_decay": 0.2}
    mine = Muon([group], lr=0.02, betas=[0.9, 0.999], momentum=0.9)
    torchs: torch.optim.Optimizer = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.2, momentum=0.9)
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)
    assert (ours - start).abs().mean() > 0.01


def test_orthogonalize_equals_the_polynomial_of_the_singular_values() -> None:
    matrix = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / matrix.norm()
    for _ in range(5):
        s = NEWTON_SCHULZ[0] * s + NEWTON_SCHULZ[1] * s**3 + NEWTON_SCHULZ[2] * s**5
    torch.testing.assert_close(orthogonalize(matrix[None])[0], u @ torch.diag(s) @ v)


def test_blocks_of_rows_step_alone_with_the_norm_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(4)
    gradient = torch.randn(8, 6, generator=generator)
    moved = {}
    for rows in (4, None):
        weight = nn.Parameter(torch.zeros(8, 6))
        weight.grad = gradient.clone()
        group = {"params": [weight], "hidden": True}
        Muon([group], lr=1.0, betas=[0.9, 0.999], momentum=0.9, block_rows=rows).step()
        moved[rows] = -weight.detach()
    look_ahead = 0.1 * gradient + 0.9 * 0.1 * gradient  # the average's start is zero; its scale is lost anyway
    halves = torch.cat([orthogonalize(half[None])[0] for half in (look_ahead[:4], look_ahead[4:])])
    torch.testing.assert_close(moved[4], (8 / 6) ** 0.5 * (6 / 8) ** 0.5 * halves)
    assert moved[4].norm().item() == pytest.approx(moved[None].norm().item(), rel=0.1)


def test_hidden_matrices_are_neither_embeddings_nor_the_output() -> None:
    options = {"width": 8, "depth": 2, "dropout": 0.0, "num_bins": 4, "embedding_dim": 4}
    model = build_model("mlp", num_numeric=2, cardinalities=[5], num_outputs=8, **options)
    assert [tuple(weight.shape) for weight in hidden_matrices(model)] == [(8, 12), (8, 8)]
    resnet = build_model("resnet", num_numeric=2, cardinalities=[5], num_outputs=8, expansion=2.0, **options)
    assert [tuple(weight.shape) for weight in hidden_matrices(resnet)] == [(8, 12), *[(16, 8), (8, 16)] * 2]
    shallow = build_model("mlp", num_numeric=2, cardinalities=[], num_outputs=1, **options | {"depth": 0})
    assert hidden_matrices(shallow) == []
    assert all(not group["hidden"] for group in build_optimizer("muon", shallow, **OPTIONS["muon"]).param_groups)


def test_each_group_has_its_rate_and_decay() -> None:
    groups = build_optimizer("muon", deep_network(), **OPTIONS["muon"]).param_groups
    found = [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups]
    assert found == [(1e-2, 0.1, 1), (1e-2, 0.0, 5), (2e-2, 0.2, 2)]


@pytest.mark.parametrize("fused", [True, False])
def test_a_restored_muon_goes_on_to_the_last_bit(fused: bool) -> None:
    whole, first, second = deep_network(), deep_network(), deep_network()
    train(whole, build_optimizer("muon", whole, fused=fused, **OPTIONS["muon"]), steps=6)
    before = build_optimizer("muon", first, fused=fused, **OPTIONS["muon"])
    train(first, before, steps=3)
    second.load_state_dict(first.state_dict())
    after = build_optimizer("muon", second, fused=fused, **OPTIONS["muon"])
    after.load_state_dict(before.state_dict())
    train(second, after, steps=3)
    for expected, found in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_too_small_to_matter_becomes_zero(name: str) -> None:
    module = network()
    optimizer = build_optimizer(name, module, **OPTIONS[name])
    train(module, optimizer)
    before = {key: value.clone() for key, value in tensors_of(optimizer).items()}
    assert before
    for value in tensors_of(optimizer).values():
        value.view(-1)[0] = 1e-39
    drop_smallest(optimizer)
    for key, value in tensors_of(optimizer).items():
        assert value.view(-1)[0] == 0.0
        assert torch.equal(value.view(-1)[1:], before[key].view(-1)[1:])


def tensors_of(optimizer: torch.optim.Optimizer) -> dict[tuple[int, str], torch.Tensor]:
    states = enumerate(optimizer.state.values())
    return {(index, key): value for index, state in states for key, value in state.items() if value.ndim}
