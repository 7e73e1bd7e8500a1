"""A model with the weights of a published implementation: its logits and its gradients by those weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

Weights = dict[str, Tensor]
Translate = Callable[[Weights], Weights]


def outcome(model: nn.Module, translate: Translate, weights: Weights, x_num: Tensor, x_cat: Tensor) -> Weights:
    """Return ``logits``, and the gradient of the sum of their squares by ``x_num`` and by each published weight."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    x_num = x_num.clone().requires_grad_()
    translated = translate(leaves)
    assert translated.keys() == dict(model.named_parameters()).keys()
    logits = functional_call(model.eval(), translated, (x_num, x_cat))
    names = ["x_num", *leaves]
    gradients = torch.autograd.grad(logits.square().sum(), [x_num, *leaves.values()])
    return {"logits": logits.detach()} | {f"gradient.{name}": g for name, g in zip(names, gradients, strict=True)}


def check(fixture: str, model: nn.Module, translate: Translate) -> None:
    """Compare with what ``make.py`` wrote."""
    stored = load_file(Path(__file__).parent / f"{fixture}.safetensors")
    weights = {name.removeprefix("weight."): each for name, each in stored.items() if name.startswith("weight.")}
    found = outcome(model, translate, weights, stored["x_num"], stored["x_cat"])
    expected = {name: each for name, each in stored.items() if name == "logits" or name.startswith("gradient.")}
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
