"""Optimizers by name, with weight decay on weight matrices only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tabstep.errors import UserError, nearest

FUSED_DEVICES = frozenset({"cpu", "cuda"})


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trained parameters: weight matrices and embeddings decay; biases, norms and other vectors do not.

    The groups come in the order of ``module.named_parameters()``, so that a checkpoint fits the module it came from.

    >>> [len(group["params"]) for group in parameter_groups(nn.Linear(2, 3), 0.1)]
    [1, 1]
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (others if parameter.ndim < 2 or name.endswith("bias") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(name: str, module: nn.Module, *, fused: bool | None = None, **options: Any) -> Optimizer:
    """Build ``adamw`` (lr, weight_decay, betas) or ``sgd`` (lr, weight_decay, momentum, nesterov).

    ``fused`` runs one kernel over all parameters; None takes it wherever all of them lie on one device that has it.
    Build the optimizer after the module was moved to its device.

    >>> type(build_optimizer("adamw", nn.Linear(2, 1), lr=1e-3, weight_decay=1e-4, betas=[0.9, 0.999])).__name__
    'AdamW'
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer.name: no optimizer is called {name!r}; {nearest(name, OPTIMIZERS)}")
    weight_decay = options.pop("weight_decay", 0.0)
    groups = parameter_groups(module, weight_decay)
    return OPTIMIZERS[name](groups, fused=_can_fuse(module) if fused is None else fused, **options)


def _can_fuse(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    devices = {parameter.device.type for parameter in parameters}
    return len(devices) == 1 and devices <= FUSED_DEVICES and all(p.is_floating_point() for p in parameters)


def _adamw(groups: list[dict[str, Any]], *, betas: Sequence[float], **options: Any) -> Optimizer:
    return AdamW(groups, betas=(betas[0], betas[1]), **options)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": _adamw, "sgd": SGD}
