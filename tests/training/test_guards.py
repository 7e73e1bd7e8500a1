from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tabstep.errors import UserError
from tabstep.training import guards


class Net(nn.Module):
    """A linear layer and whatever is put after it."""

    def __init__(self, after: Any = None, outputs: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(4, outputs)
        self.after = after

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = self.linear(x_num)
        return self.after(logits) if self.after else logits


X, NO_CAT = torch.randn(8, 4), torch.zeros(8, 0, dtype=torch.int32)


@pytest.mark.parametrize(
    ("after", "name"),
    [
        (nn.Softmax(dim=1), "softmax"),
        (nn.Sigmoid(), "sigmoid"),
        (torch.sigmoid, "sigmoid"),
        (lambda z: z.softmax(1).view(8, 3), "softmax"),
        (lambda z: z.sigmoid().unsqueeze(1).squeeze(1), "sigmoid"),
        (lambda z: z.half().sigmoid().float(), "sigmoid"),
    ],
)
def test_probabilities_before_the_loss_are_refused(after: Any, name: str) -> None:
    with pytest.raises(UserError, match=f"ends in {name}.*remove the {name}"):
        guards.check_logits(Net(after)(X, NO_CAT))


@pytest.mark.parametrize(
    "after", [None, lambda z: z.clamp(0, 1), lambda z: z.sigmoid() * 4, lambda z: z.log_softmax(1)]
)
def test_logits_pass_even_where_they_look_like_probabilities(after: Any) -> None:
    guards.check_logits(Net(after)(X, NO_CAT))
    guards.check_logits(torch.rand(8, 3))  # no graph, nothing to say


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 4), (7, 3), (1, 3), (8, 3, 1)])
def test_shapes_that_would_be_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"shape \(8, 3\)"):
        guards.check_shapes(torch.zeros(shape), torch.zeros(8, dtype=torch.int64), 3)


def test_members_of_an_ensemble_pass() -> None:
    guards.check_shapes(torch.zeros(8, 5, 3), torch.zeros(8), 3)


@pytest.mark.parametrize(
    ("y", "task", "outputs", "value"),
    [
        (torch.tensor([0, 1, 3]), "multiclass", 3, "3"),
        (torch.tensor([0, -1, 2]), "multiclass", 3, "-1"),
        (torch.tensor([0, 2]), "binary", 1, "2"),
        (torch.tensor([[0.0, 0.5]]), "multilabel", 2, "0.5"),
    ],
)
def test_labels_out_of_range_are_refused(y: Tensor, task: Any, outputs: int, value: str) -> None:
    with pytest.raises(UserError, match=f"labels: .*{value}"):
        guards.check_targets(y, task, outputs)


def test_a_tensor_that_did_not_move_with_the_model_is_named() -> None:
    net = Net()
    net.register_buffer("table", torch.zeros(2, device="meta"))
    with pytest.raises(UserError, match=r"linear\.weight on cpu.*table on meta.*register_buffer"):
        guards.check_devices(net, (X, NO_CAT, torch.zeros(8)))


def test_batch_norm_over_one_row_is_refused_and_layer_norm_is_not() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size: .*1 row .*1 normalizes"):
        guards.check_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 1)
    guards.check_batch_norm(nn.BatchNorm1d(2), 2)
    guards.check_batch_norm(nn.LayerNorm(2), 1)


def test_an_exploding_gradient_is_refused() -> None:
    guards.check_gradient_norm(9.9, 10.0, "epoch 1, batch 1", 0.1)
    with pytest.raises(UserError, match=r"gradient norm is 10\.1 at epoch 3, batch 4.*optimizer\.lr \(now 0\.1\)"):
        guards.check_gradient_norm(10.1, 10.0, "epoch 3, batch 4", 0.1)


def test_the_origin_of_a_nan_is_named() -> None:
    names = ["a", "b", "c", "d"]
    bad = X.clone()
    bad[3, 2] = torch.nan
    assert "input column 'c'" in guards.explain_nonfinite(Net(), bad, NO_CAT, names)
    broken = Net()
    with torch.no_grad():
        broken.linear.bias[1] = torch.inf
    assert "weights linear.bias" in guards.explain_nonfinite(broken, X, NO_CAT, names)

    class Overflow(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return (z * 1e38) * 1e38

    assert "layer after" in guards.explain_nonfinite(Net(Overflow()), X, NO_CAT, names)
    assert "the loss itself" in guards.explain_nonfinite(Net(), X, NO_CAT, names)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_suggests_a_batch_size(error: RuntimeError) -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=512: try data\.batch_size=256"), guards.memory_guard(512):
        raise error


def test_other_errors_pass_the_memory_guard_unchanged() -> None:
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2$"), guards.memory_guard(512):
        raise RuntimeError("mat1 and mat2")


def test_one_loss_and_one_weight_a_row() -> None:
    guards.check_losses(torch.zeros(3), torch.ones(3), 3)
    with pytest.raises(UserError, match=r"losses \(\) and weights \(3,\) for 3 rows"):
        guards.check_losses(torch.zeros(()), torch.ones(3), 3)
