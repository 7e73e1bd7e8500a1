from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tabstep.models.probabilities import pooled, probabilities
from tabstep.models.tabm import MemberLinear, TabM
from tabstep.schema import Task
from tabstep.training.losses import build_loss
from tabstep.training.optimizers import hidden_matrices


def new_model(**options: int) -> TabM:
    torch.manual_seed(0)
    sizes = {"members": 3, "width": 8, "depth": 2, "num_bins": 3, "embedding_dim": 5} | options
    return TabM(2, [4], 3, dropout=0.5, **sizes)


def disturbed(model: nn.Module) -> nn.Module:
    """Move every parameter, for at the start the adapters are one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def test_each_member_equals_the_papers_formula() -> None:
    model = new_model().eval()
    disturbed(model)
    x_num, x_cat = torch.randn(6, 2), torch.randint(0, 4, (6, 1))
    layers = [layer for layer in model.backbone if isinstance(layer, MemberLinear)]
    logits = model(x_num, x_cat)
    assert logits.shape == (6, 3, 3)
    for i in range(3):
        hidden = model.features(x_num, x_cat)
        for layer in layers:
            r, s, b = layer.input_scale[i], layer.output_scale[i], layer.bias[i]
            hidden = (((hidden * r) @ layer.shared.weight.T) * s + b).relu()
        expected = hidden @ model.head.weight[i] + model.head.bias[i]
        assert model.linear is not None
        torch.testing.assert_close(logits[:, i], expected + model.linear(x_num, x_cat))


def test_members_begin_apart_by_one_number_a_column_and_by_their_heads() -> None:
    first, second = (layer for layer in new_model().backbone if isinstance(layer, MemberLinear))
    columns = first.input_scale.view(3, 3, 5)  # two numbers and a category, five inputs each
    assert torch.equal(columns, columns[:, :, :1].expand(-1, -1, 5))
    assert len(set(columns[:, :, 0].flatten().tolist())) == 9
    for ones in (first.output_scale, second.input_scale, second.output_scale):
        assert torch.equal(ones, torch.ones_like(ones))
    assert torch.equal(first.bias, first.bias[:1].expand(3, -1))
    assert len(set(new_model().head.weight.flatten().tolist())) == 3 * 8 * 3


def test_plain_numbers_begin_with_signs() -> None:
    model = new_model(num_bins=0, members=16)
    first = model.backbone[0]
    assert isinstance(first, MemberLinear)
    assert set(first.input_scale[:, :2].flatten().tolist()) == {-1.0, 1.0}


def test_dropout_is_each_members_own() -> None:
    model = new_model(depth=1)
    first = model.backbone[0]
    assert isinstance(first, MemberLinear)
    nn.init.ones_(first.input_scale)
    hidden = model.backbone(torch.ones(1, 1, model.features.output_dim).expand(-1, 3, -1))
    assert not torch.equal(hidden[0, 0], hidden[0, 1])


@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 2)])
def test_losses_of_members_and_their_probabilities_are_averaged(task: Task, outputs: int) -> None:
    torch.manual_seed(1)
    logits = 4.0 * torch.randn(7, 5, outputs)
    y = torch.randint(0, 2, (7, outputs)).float() if task == "multilabel" else torch.randint(0, 2, (7,))
    loss = build_loss("auto", task=task)
    alone = torch.stack([loss(logits[:, i], y)[0] for i in range(5)])
    torch.testing.assert_close(loss(logits, y)[0], alone.mean(dim=0))
    mean = torch.stack([probabilities(logits[:, i], task) for i in range(5)]).mean(dim=0)
    torch.testing.assert_close(probabilities(logits, task), mean)
    torch.testing.assert_close(probabilities(pooled(logits, task), task), mean)


def test_pooling_is_exact_where_a_member_is_sure() -> None:
    assert pooled(torch.tensor([[[60.0], [70.0]]]), "binary").item() == pytest.approx(60 + math.log(2), abs=1e-3)
    assert pooled(torch.tensor([[[200.0, 0.0], [0.0, 0.0]]]), "multiclass").softmax(1)[0].tolist() == pytest.approx(
        [0.75, 0.25]
    )


def test_shared_matrices_are_muons() -> None:
    assert [tuple(weight.shape) for weight in hidden_matrices(new_model())] == [(8, 15), (8, 8)]
