from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import CrossEntropyLoss

from tabstep.errors import UserError
from tabstep.schema import Task
from tabstep.training.losses import Loss, balanced_weights, build_loss

WEIGHTS = {"binary": [0.7, 2.5], "multiclass": [0.5, 1.0, 2.0, 4.0], "multilabel": [0.5, 1.0, 3.0]}


def example(task: Task, rows: int = 37) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    if task == "binary":
        return 3.0 * torch.randn(rows, 1), torch.randint(0, 2, (rows,))
    if task == "multiclass":
        return 3.0 * torch.randn(rows, 4), torch.randint(0, 4, (rows,))
    return 3.0 * torch.randn(rows, 3), torch.randint(0, 2, (rows, 3)).float()


def reduced(loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    losses, weights = loss(logits, y)
    assert losses.shape == weights.shape == (len(y),)
    assert losses.dtype == weights.dtype == torch.float32
    return (losses * weights).sum() / weights.sum()


def shifted(logits: Tensor, task: Task, weights: list[float] | None) -> Tensor:
    """Return what a model gives as torch's losses want it: with the logarithms of the class weights."""
    if weights is None:
        return logits
    logs = torch.tensor(weights).log()
    return logits + (logs[1] - logs[0] if task == "binary" else logs)


def as_two_logits(logits: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_mean_equals_torch_cross_entropy(task: Task, weighted: bool, smoothing: float) -> None:
    logits, y = example(task)
    weights = WEIGHTS[task] if weighted else None
    oracle = CrossEntropyLoss(None if weights is None else torch.tensor(weights), label_smoothing=smoothing)
    honest = shifted(logits, task, weights)
    expected = oracle(as_two_logits(honest) if task == "binary" else honest, y)
    loss = build_loss("cross_entropy", task=task, class_weights=weights, label_smoothing=smoothing)
    torch.testing.assert_close(reduced(loss, logits, y), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_multilabel_equals_torch_bce(weighted: bool) -> None:
    logits, y = example("multilabel")
    weights = WEIGHTS["multilabel"] if weighted else None
    expected = F.binary_cross_entropy_with_logits(
        shifted(logits, "multilabel", weights), y, pos_weight=None if weights is None else torch.tensor(weights)
    )
    loss = build_loss("auto", task="multilabel", class_weights=weights)
    torch.testing.assert_close(reduced(loss, logits, y), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_class_weights_leave_probabilities_as_they_are(task: Task) -> None:
    """Logits that are free for each kind of row become those of the shares that the rows have."""
    generator = torch.Generator().manual_seed(0)
    kinds, outputs = torch.randint(0, 3, (3_000,), generator=generator), {"binary": 1, "multiclass": 4, "multilabel": 3}
    _, y = example(task, rows=3_000)
    logits = torch.zeros(3, outputs[task], requires_grad=True)
    loss = build_loss("auto", task=task, class_weights=WEIGHTS[task])
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = reduced(loss, logits[kinds], y)
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call, arg-type]
    indicators = (
        y if task == "multilabel" else F.one_hot(y).float()[:, 1:] if task == "binary" else F.one_hot(y).float()
    )
    shares = torch.stack([indicators[kinds == kind].mean(dim=0) for kind in range(3)])
    found = logits.softmax(dim=1) if task == "multiclass" else logits.sigmoid()
    torch.testing.assert_close(found, shares, atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_focal_equals_its_formula(task: Task, gamma: float) -> None:
    logits, y = example(task)
    honest = shifted(logits, task, WEIGHTS[task])
    probs = (as_two_logits(honest) if task == "binary" else honest).softmax(1).gather(1, y[:, None]).squeeze(1)
    loss = build_loss("focal", task=task, class_weights=WEIGHTS[task], focal_gamma=gamma)
    losses, weights = loss(logits, y)
    torch.testing.assert_close(losses, -((1 - probs) ** gamma) * probs.log(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights, torch.tensor(WEIGHTS[task])[y])


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_focal_without_gamma_is_the_plain_loss(task: Task) -> None:
    logits, y = example(task)
    options: dict[str, Any] = {"task": task, "class_weights": WEIGHTS[task], "label_smoothing": 0.1}
    focal = build_loss("focal", focal_gamma=1e-9, **options)
    torch.testing.assert_close(reduced(focal, logits, y), reduced(build_loss("auto", **options), logits, y))


@pytest.mark.parametrize("name", ["auto", "focal"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_huge_logits_stay_finite(task: Task, name: Any) -> None:
    logits, y = example(task)
    huge = (1e4 * logits).requires_grad_()
    loss = reduced(build_loss(name, task=task, label_smoothing=0.1), huge, y)
    loss.backward()
    assert loss.isfinite()
    assert huge.grad is not None
    assert huge.grad.isfinite().all()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_members_are_scored_one_by_one(task: Task) -> None:
    logits, y = example(task)
    members = torch.stack([logits, -logits, 2.0 * logits], dim=1)
    loss = build_loss("auto", task=task, class_weights=WEIGHTS[task])
    expected = torch.stack([loss(members[:, k], y)[0] for k in range(3)]).mean(dim=0)
    losses, weights = loss(members, y)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(weights, loss(logits, y)[1])


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_micro_batches_sum_to_the_batch(task: Task) -> None:
    logits, y = example(task)
    loss = build_loss("auto", task=task, class_weights=WEIGHTS[task], label_smoothing=0.05)
    parts = [loss(l, t) for l, t in zip(logits.split(8), y.split(8), strict=True)]  # noqa: E741
    total = sum((losses * weights).sum() for losses, weights in parts) / sum(weights.sum() for _, weights in parts)
    torch.testing.assert_close(torch.as_tensor(total), reduced(loss, logits, y))


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits, y = example("multiclass")
    loss = build_loss("auto", task="multiclass")
    torch.testing.assert_close(loss(logits.half(), y)[0], loss(logits.half().float(), y)[0])


@pytest.mark.parametrize(("task", "name"), [("multiclass", "bce"), ("multilabel", "cross_entropy")])
def test_a_loss_that_does_not_fit_is_refused(task: Task, name: Any) -> None:
    with pytest.raises(UserError, match=rf"loss\.name: {name} does not fit a {task} task"):
        build_loss(name, task=task)


@pytest.mark.parametrize(
    ("task", "logits", "y"),
    [
        ("binary", torch.zeros(5, 2), torch.zeros(5, dtype=torch.long)),
        ("binary", torch.zeros(5, 1), torch.zeros(4, dtype=torch.long)),
        ("binary", torch.zeros(5, 1), torch.zeros(5)),
        ("multiclass", torch.zeros(5, 3), torch.zeros(5)),
        ("multiclass", torch.zeros(5, 3), torch.zeros(4, dtype=torch.long)),
        ("multilabel", torch.zeros(5, 1), torch.zeros(5, 3)),
    ],
)
def test_shapes_that_would_broadcast_are_refused(task: Task, logits: Tensor, y: Tensor) -> None:
    with pytest.raises(ValueError, match="do not fit targets"):
        build_loss("auto", task=task)(logits, y)


def test_balanced_weights_equal_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    y = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2])
    expected = compute_class_weight("balanced", classes=y.unique().numpy(), y=y.numpy())
    assert balanced_weights(y.split(3), task="multiclass", num_outputs=3).tolist() == pytest.approx(expected.tolist())


def test_balanced_weights_of_labels_are_negatives_per_positive() -> None:
    y = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert balanced_weights(y.split(3), task="multilabel", num_outputs=2).tolist() == [3.0, 4.0]


def test_balanced_weights_of_an_absent_class_are_finite() -> None:
    assert balanced_weights([torch.tensor([0, 0, 1])], task="multiclass", num_outputs=3).tolist() == [0.5, 1.0, 1.0]
