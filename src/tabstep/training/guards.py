"""Guards against the classic mistakes of a training loop: each names the cause and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tabstep.errors import UserError
from tabstep.schema import Task

LOOK_EVERY = 50
"""Batches between two looks at the loss on a GPU: each look waits for the device."""
# operations that change no value: what made the outputs stands behind them in the graph
_TRANSPARENT = ("View", "Squeeze", "Unsqueeze", "ToCopy", "Reshape", "Slice", "Alias", "Clone", "Expand", "Transpose")


def check_shapes(logits: Tensor, y: Tensor, num_outputs: int) -> None:
    """Refuse outputs that would be broadcast against the targets instead of compared with them.

    Logits must be ``(B, num_outputs)``, or ``(B, k, num_outputs)`` with ``k`` members of an ensemble.
    """
    if logits.ndim not in (2, 3) or logits.shape[0] != len(y) or logits.shape[-1] != num_outputs:
        raise UserError(
            f"model: outputs of shape {tuple(logits.shape)} do not fit targets of shape {tuple(y.shape)}: "
            f"forward must return logits of shape ({len(y)}, {num_outputs})"
        )


def check_logits(logits: Tensor) -> None:
    """Refuse probabilities where logits are due: the loss applies softmax or sigmoid itself.

    The graph of the outputs tells it without doubt, where their values could be in [0, 1] by chance.
    """
    node: Any = logits.grad_fn
    while node is not None and node.name().startswith(_TRANSPARENT) and node.next_functions:
        node = node.next_functions[0][0]
    if node is not None and node.name().startswith(("Sigmoid", "Softmax")):
        called = node.name().removesuffix("Backward0").lower()
        raise UserError(
            f"model: forward ends in {called}, but the loss works on logits and applies it itself: "
            f"remove the {called} from the model"
        )


def check_targets(y: Tensor, task: Task, num_outputs: int) -> None:
    """Refuse labels outside of what the model has outputs for."""
    if task == "multilabel":
        bad = ~((y == 0) | (y == 1))
        if bool(bad.any()):
            raise UserError(f"labels: a multilabel column holds {y[bad][0].item()!r}; only 0 and 1 are allowed")
        return
    classes = 2 if task == "binary" else num_outputs
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"labels: class {low if low < 0 else high} is out of range: the model has {classes} classes, "
            f"0 to {classes - 1}: check schema.classes against the label column"
        )


def check_devices(model: nn.Module, batch: Sequence[Tensor | None]) -> None:
    """Refuse a model whose parts, or whose batch, lie on several devices."""
    places: dict[str, str] = {}
    for name, tensor in [
        *model.named_parameters(),
        *model.named_buffers(),
        *(
            (name, part)
            for name, part in zip(("x_num", "x_cat", "y", "weight"), batch, strict=False)
            if part is not None
        ),
    ]:
        places.setdefault(str(tensor.device), name)
    if len(places) > 1:
        found = ", ".join(f"{name} on {device}" for device, name in places.items())
        raise UserError(
            f"model: tensors lie on several devices ({found}): register tensors of a model with register_buffer, "
            "so that they move with it"
        )


def check_batch_norm(model: nn.Module, smallest_batch: int) -> None:
    """Refuse batch normalization over one row: its variance does not exist."""
    if smallest_batch >= 2:
        return
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise UserError(
                f"data.batch_size: a training batch has {smallest_batch} row on a rank, but {name} normalizes over the "
                "batch: use batches of at least 2 rows or a model without BatchNorm"
            )


def check_gradient_norm(norm: float, limit: float, where: str, lr: float) -> None:
    """Refuse an exploding gradient before it reaches the weights."""
    if norm > limit:
        raise UserError(
            f"training: the gradient norm is {norm:.3g} at {where}, above callbacks.fail_above_grad_norm={limit:g}: "
            f"lower optimizer.lr (now {lr:g}), or raise callbacks.fail_above_grad_norm if you expect it"
        )


def check_gradients(model: nn.Module, norm: Tensor, where: str, lr: float) -> None:
    """Refuse NaN gradients of a finite loss: clipping would spread them to all weights."""
    if not math.isfinite(float(norm)):
        names = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        raise UserError(
            f"training: the gradient of {names[0] if names else 'a weight'} is not finite at {where} though the "
            f"loss is: lower optimizer.lr (now {lr:g}), or use trainer.precision=32-true"
        )


class LossWatch:
    """Looks for a loss that is not finite: at each one, or, where a look waits for a GPU, at many in one go."""

    def __init__(self) -> None:
        self._unseen: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Remember the loss of a batch."""
        self._unseen.append(loss)

    def first_bad(self, *, now: bool = True) -> tuple[int, float] | None:
        """Look, and return how many batches ago the first bad loss came, and its value; None where all are finite.

        Unless ``now``, losses on a GPU are looked at once in ``LOOK_EVERY`` batches.
        """
        if not self._unseen or not (now or self._unseen[-1].device.type == "cpu" or len(self._unseen) >= LOOK_EVERY):
            return None
        # in one tensor: a GPU is waited for once
        values = torch.stack(self._unseen).tolist()
        self._unseen.clear()
        bad = (index for index, value in enumerate(values) if not math.isfinite(value))
        first = next(bad, None)
        return None if first is None else (len(values) - 1 - first, values[first])


def explain_nonfinite(model: nn.Module, x_num: Tensor, x_cat: Tensor, names: Sequence[str]) -> str:
    """Say where the first NaN or infinity of a forward pass arises: an input column, a weight or a layer."""
    # causes before effects: a bad input or weight shows in every layer behind it
    bad = (~torch.isfinite(x_num)).any(dim=0).nonzero()
    if len(bad):
        return f"the input column {names[int(bad[0])]!r} holds it: check that column of the table"
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the weights {name} hold it: the step before diverged"
    found: list[str] = []

    def watch(name: str) -> Any:
        # a module's hook comes after those of its parts: the first is the innermost
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(x_num, x_cat)
    finally:
        for handle in handles:
            handle.remove()
    return f"the layer {found[0]} makes it first" if found else "the outputs are finite: the loss itself overflows"


@contextmanager
def memory_guard(batch_size: int) -> Iterator[None]:
    """Turn an out-of-memory error of any device into advice: a batch size that should fit."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises a plain one
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in text:
            raise
        raise UserError(
            f"training: out of memory with data.batch_size={batch_size}: try data.batch_size={max(1, batch_size // 2)} "
            "with trainer.accumulate_grad_batches=2 for the same steps, or a smaller model "
            f"({text.splitlines()[0][:200]})"
        ) from error


def check_losses(losses: Tensor, weights: Tensor, rows: int) -> None:
    """Raise ``UserError`` where a step has not one loss and one weight a row, of which means over rows are made."""
    if tuple(losses.shape) != (rows,) or tuple(weights.shape) != (rows,):
        raise UserError(
            f"training: batch_losses gives losses {tuple(losses.shape)} and weights {tuple(weights.shape)} for "
            f"{rows} rows: one of each a row is needed"
        )
