from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tabstep.models.dcn import DCN
from tabstep.models.ft_transformer import FTTransformer
from tabstep.models.linear import LinearModel
from tabstep.models.mlp import MLP
from tabstep.models.pack import Pack
from tabstep.models.probabilities import pooled
from tabstep.models.realmlp import RealMLP
from tabstep.models.resnet import ResNet
from tabstep.models.tabm import TabM

CARDINALITIES = [5, 9]


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_cat = torch.stack([torch.randint(0, size, (count,), generator=generator) for size in CARDINALITIES], dim=1)
    return torch.randn(count, 3, generator=generator), x_cat.int()


def fitted(num_outputs: int) -> LinearModel:
    model = LinearModel(3, CARDINALITIES, num_outputs)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def test_logits_are_those_of_one_hot_columns() -> None:
    model = fitted(2)
    x_num, x_cat = rows(20)
    one_hot = [np.eye(size)[x_cat[:, column]] for column, size in enumerate(CARDINALITIES)]
    weights = np.vstack([model.numeric.detach().numpy(), model.codes.detach().numpy()])
    expected = np.hstack([x_num.numpy(), *one_hot]) @ weights + model.bias.detach().numpy()
    assert model(x_num, x_cat).detach().numpy() == pytest.approx(expected, abs=1e-5)
    terms = model.terms(x_num, x_cat)
    assert terms.shape == (20, 5, 2)
    torch.testing.assert_close(terms.sum(dim=1) + model.bias, model(x_num, x_cat))


@pytest.mark.parametrize("kinds", [(0, CARDINALITIES), (3, [])])
def test_either_kind_of_columns_may_be_absent(kinds: tuple[int, list[int]]) -> None:
    x_num, x_cat = rows(4)
    model = LinearModel(*kinds, 1)
    x_num, x_cat = x_num[:, : kinds[0]], x_cat[:, : len(kinds[1])]
    assert model(x_num, x_cat).shape == (4, 1)
    assert model.terms(x_num, x_cat).shape == (4, kinds[0] + len(kinds[1]), 1)


@pytest.mark.parametrize("make", [DCN, FTTransformer, MLP, Pack, RealMLP, ResNet, TabM])
def test_a_network_begins_as_the_linear_model_and_every_part_of_it_learns(make: type[nn.Module]) -> None:
    linear = fitted(3)
    model = make(3, CARDINALITIES, 3, width=16, depth=2)
    model.begin_linear(linear)  # type: ignore[operator]
    torch.testing.assert_close(pooled(model(*rows(9)), "multiclass").softmax(dim=1), linear(*rows(9)).softmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the output layer begins at zero, so that those below it learn from the second step on
        optimizer.zero_grad()
        pooled(model(*rows(64)), "multiclass").square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    still = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("make", [Pack, TabM])
@pytest.mark.parametrize(("members", "count"), [(1, 1), (4, 2), (5, 3)])
def test_half_of_the_members_begin_as_the_linear_model_and_the_others_do_not(
    members: int, count: int, make: type[nn.Module]
) -> None:
    linear, sizes = fitted(2), {"members": members, "width": 16, "depth": 2}
    torch.manual_seed(0)
    model = make(3, CARDINALITIES, 2, linear="half", **sizes).eval()
    torch.manual_seed(0)
    plain = make(3, CARDINALITIES, 2, linear=False, **sizes).eval()
    model.begin_linear(linear)  # type: ignore[operator]
    logits, without = model(*rows(9)), plain(*rows(9))
    torch.testing.assert_close(logits[:, :count], linear(*rows(9)).unsqueeze(1).expand(-1, count, -1))
    torch.testing.assert_close(logits[:, count:], without[:, count:])


def test_without_a_linear_part_nothing_is_begun() -> None:
    model = MLP(3, CARDINALITIES, 1, linear=False)
    before = model(*rows(5))
    model.begin_linear(fitted(1))
    assert torch.equal(model.eval()(*rows(5)), model(*rows(5)))
    assert before.shape == (5, 1)
    assert bool(model.head.weight.any())
