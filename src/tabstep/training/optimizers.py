"""Optimizers by name, with weight decay on weight matrices only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.adamw import adamw

from tabstep import registry
from tabstep.errors import UserError, nearest
from tabstep.registry import PluginSettings

FUSED_DEVICES = frozenset({"cpu", "cuda"})
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Muon's quintic: they take every singular value to about 1 in five steps, none of them exactly."""
BLOCK_ROWS = 64
"""Rows of a hidden matrix that are orthogonalized together: a quarter of the cost of 256, and no worse."""
SMALLEST = 1e-24
"""Below this a number of an optimizer's state is taken for zero: Adam adds 1e-8 to the root of a square."""
DECAY_ROWS = 10_000
"""Rows of train from which on a strong decay keeps networks from learning rows by heart; fewer are learned worse."""


class Muon(Optimizer):
    """Muon for the groups that are marked ``hidden``, AdamW for all others: one optimizer, one state.

    Muon replaces the gradient's momentum ``M = U S V'`` by about ``U V'``, so that all directions of a matrix learn at
    one pace: Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with Nesterov momentum, decoupled decay and the
    factor ``sqrt(max(1, rows / columns))``, as ``torch.optim.Muon`` of torch 2.13. Two changes, both for the CPU.
    torch's class computes in bfloat16, which takes 30 times longer than float32 on processors without it; and the rows
    of a matrix are orthogonalized ``block_rows`` at a time, scaled to the norm that the update of the whole would have.

    Args:
        groups: parameter groups with ``hidden``; a hidden one holds matrices and its own ``lr``.
        block_rows: what divides a matrix's rows cuts it; None takes every matrix whole.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: Sequence[float],
        momentum: float,
        block_rows: int | None = BLOCK_ROWS,
        fused: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": (betas[0], betas[1]), "momentum": momentum, "weight_decay": 0.0, "fused": fused}
        super().__init__(groups, defaults)
        self._block_rows = block_rows

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                (self._step_hidden if group["hidden"] else self._step_adamw)(group, parameters)
        return loss

    def _step_hidden(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
        blocks = []
        for parameter in parameters:
            update = self._momentum(parameter, group["momentum"])
            # views of block_rows rows each
            blocks.append(update.view(-1, block_size(len(update), self._block_rows), update.shape[1]))
        for parameter, part in zip(parameters, orthogonalize_all(blocks), strict=True):
            scale = update_scale(parameter.shape, part.shape[1])
            parameter.add_(part.reshape(parameter.shape), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Take the gradient into the average and return Nesterov's look ahead."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum"]
        average.lerp_(parameter.grad, 1.0 - momentum)
        return parameter.grad.lerp(average, momentum)

    def _step_adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        states = [self._adamw_state(parameter, group["fused"]) for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True if group["fused"] else None,  # None lets torch take one loop over all tensors on a GPU
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )

    def _adamw_state(self, parameter: Tensor, fused: bool) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device if fused else None)  # fused counts on the device
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return about ``U V'`` of matrices ``U S V'``, in the same shape ``(n, rows, columns)``, by Newton-Schulz steps.

    A step is ``x <- p(x x') x``. The polynomials commute, so that they are multiplied up in the square of the shorter
    side and meet ``x`` once: a fifth of the work on a matrix much wider than high.

    >>> torch.linalg.svdvals(orthogonalize(torch.diag(torch.tensor([3.0, 1.0, 0.2]))[None])).sub(1).abs().max() < 0.35
    tensor(True)
    """
    return orthogonalize_all([matrices], steps)[0]


def orthogonalize_all(matrices: Sequence[Tensor], steps: int = 5) -> list[Tensor]:
    """Return ``orthogonalize`` of each; those of one shorter side go through the steps together, in one call each."""
    wide = [x.mT if x.shape[1] > x.shape[2] else x for x in matrices]
    # a norm of 1 bounds every singular value by 1, as the steps need it
    scaled = [x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7) for x in wide]
    made: list[Tensor] = list(scaled)
    for side in dict.fromkeys(x.shape[1] for x in scaled):
        places = [place for place, x in enumerate(scaled) if x.shape[1] == side]
        product = _product(torch.cat([scaled[place] @ scaled[place].mT for place in places]), steps)
        for place, part in zip(places, torch.split(product, [len(scaled[place]) for place in places]), strict=True):
            found = part @ scaled[place]
            made[place] = found if wide[place] is matrices[place] else found.mT
    return made


def _product(gram: Tensor, steps: int) -> Tensor:
    """Return the product of the steps' polynomials, of ``x x'`` ``(n, side, side)`` of the scaled matrices ``x``."""
    a, b, c = NEWTON_SCHULZ
    product: Tensor | None = None
    for step in range(steps):
        # a + b G + c G²
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        product = polynomial if product is None else polynomial @ product
        # the polynomial p commutes with G, so that (p x)(p x)' is p G p
        if step + 1 < steps:
            gram = polynomial @ gram @ polynomial
    assert product is not None
    return product


def block_size(rows: int, most: int | None) -> int:
    """Return the largest divisor of ``rows`` up to ``most``; all rows where it would be less than half of that.

    >>> block_size(256, 64), block_size(192, 64), block_size(100, 64), block_size(97, 64), block_size(97, None)
    (64, 64, 50, 97, 97)
    """
    if most is None or rows <= most:
        return rows
    best = next(size for size in range(most, 0, -1) if rows % size == 0)
    return best if 2 * best >= most else rows


def update_scale(shape: torch.Size, block_rows: int) -> float:
    """Return the factor of a step whose matrix was orthogonalized ``block_rows`` at a time.

    ``sqrt(max(1, rows / columns))``, and the norm of the orthogonal whole over that of its orthogonal blocks.

    >>> update_scale(torch.Size([256, 64]), 256), update_scale(torch.Size([256, 256]), 64)
    (2.0, 1.0)
    """
    rows, columns = shape
    # squared norms: an orthogonal matrix has one for each singular value
    whole, blocks = min(rows, columns), min(block_rows, columns) * rows / block_rows
    return float(max(1.0, rows / columns) ** 0.5 * (whole / blocks) ** 0.5)


@torch.no_grad()
def drop_smallest(optimizer: Optimizer) -> None:
    """Set what an optimizer's state holds below ``SMALLEST`` to zero, on the CPU.

    A unit that is off for all rows has gradients of zero, so that its momentum shrinks by a factor a step, to numbers
    below 1e-38, with which processors calculate a hundred times slower: a step took seven times as long after 3,000.
    """
    for state in optimizer.state.values():
        for value in state.values():
            # a number alone is a count or a product that the optimizer goes by
            if isinstance(value, Tensor) and value.ndim and value.device.type == "cpu" and value.is_floating_point():
                value.masked_fill_(value.abs() < SMALLEST, 0.0)


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights of the linear layers but the output layer's: that called ``head``, else the last one.

    >>> [tuple(weight.shape) for weight in hidden_matrices(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))]
    [(3, 2)]
    """
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    head = [name for name in layers if name.split(".")[0] == "head"] if hasattr(module, "head") else list(layers)[-1:]
    weights = [cast(nn.Parameter, layer.weight) for name, layer in layers.items() if name not in head]
    return [weight for weight in weights if weight.requires_grad]


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


def auto_hidden_weight_decay(num_rows: int, steps_per_epoch: int, hidden_lr: float) -> float:
    """Return the weight decay of Muon's part for so many rows of train, cut into so many steps.

    Weights that decay are an average of the last ``1 / (lr * decay)`` steps, whose right length is one in epochs (Wang
    and Aitchison 2024, arXiv:2405.13698): here four of them, and a decay of 0.3 at most.

    >>> [round(auto_hidden_weight_decay(*table, 0.005), 4) for table in ((4_000, 63), (30_000, 118), (10**6, 977))]
    [0.0001, 0.3, 0.0512]
    """
    return min(0.3, 1 / (hidden_lr * 4 * steps_per_epoch)) if num_rows >= DECAY_ROWS else 1e-4


def build_optimizer(name: str, module: nn.Module, *, fused: bool | None = None, **options: Any) -> Optimizer:
    """Build ``muon`` (lr, hidden_lr, weight_decay, hidden_weight_decay, betas, momentum), ``adamw`` or ``sgd``.

    ``adamw`` takes lr, weight_decay and betas; ``sgd`` lr, weight_decay, momentum and nesterov. ``fused`` runs one
    kernel over all parameters; None takes it wherever all of them lie on one device that has it. Build the optimizer
    after the module was moved to its device. Any other name is one of the registry, with options of its own.

    >>> type(build_optimizer("adamw", nn.Linear(2, 1), lr=1e-3, weight_decay=1e-4, betas=[0.9, 0.999])).__name__
    'AdamW'
    """
    if name not in OPTIMIZERS and registry.OPTIMIZERS.find(name) is not None:
        return foreign_optimizer(PluginSettings(name=name, options=options), module)
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer.name: no optimizer is called {name!r}; {nearest(name, OPTIMIZERS)}")
    return OPTIMIZERS[name](module, fused=_can_fuse(module) if fused is None else fused, **options)


def foreign_optimizer(part: PluginSettings, module: nn.Module) -> Optimizer:
    """Build an optimizer of torch or of another package; a ``weight_decay`` that is set spares vectors here too.

    >>> type(foreign_optimizer(PluginSettings(name="torch.optim:NAdam", options={"lr": 0.1}), nn.Linear(2, 1))).__name__
    'NAdam'
    """
    decay = part.options.get("weight_decay")
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    built: Optimizer = registry.OPTIMIZERS.make(
        part, parameters if decay is None else parameter_groups(module, float(decay))
    )
    return built


def _can_fuse(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    devices = {parameter.device.type for parameter in parameters}
    return len(devices) == 1 and devices <= FUSED_DEVICES and all(p.is_floating_point() for p in parameters)


def _adamw(module: nn.Module, *, betas: Sequence[float], weight_decay: float, **options: Any) -> Optimizer:
    return AdamW(parameter_groups(module, weight_decay), betas=(betas[0], betas[1]), **options)


def _sgd(module: nn.Module, *, weight_decay: float, **options: Any) -> Optimizer:
    return SGD(parameter_groups(module, weight_decay), **options)


def _muon(
    module: nn.Module, *, weight_decay: float, hidden_lr: float, hidden_weight_decay: float, **options: Any
) -> Optimizer:
    hidden = hidden_matrices(module)
    mine = {id(parameter) for parameter in hidden}
    groups = [
        {**group, "params": [p for p in group["params"] if id(p) not in mine], "hidden": False}
        for group in parameter_groups(module, weight_decay)
    ]
    groups.append({"params": hidden, "lr": hidden_lr, "weight_decay": hidden_weight_decay, "hidden": True})
    return Muon([group for group in groups if group["params"]], **options)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"muon": _muon, "adamw": _adamw, "sgd": _sgd}
