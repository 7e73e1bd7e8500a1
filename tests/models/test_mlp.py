from __future__ import annotations

import torch
from torch import nn

from tabstep.models.mlp import MLP


def test_equal_to_the_layers_by_hand() -> None:
    torch.manual_seed(0)
    model = MLP(2, [4], 3, width=8, depth=2, dropout=0.5, num_bins=3, embedding_dim=5).eval()
    x_num, x_cat = torch.randn(6, 2), torch.randint(0, 4, (6, 1))
    hidden = model.features(x_num, x_cat)
    first, second = (layer for layer in model.backbone if isinstance(layer, nn.Linear))
    hidden = (hidden @ first.weight.T + first.bias).relu()
    hidden = (hidden @ second.weight.T + second.bias).relu()
    torch.testing.assert_close(model(x_num, x_cat), hidden @ model.head.weight.T + model.head.bias)


def test_dropout_is_off_in_evaluation() -> None:
    model = MLP(2, [4], 1, width=8, depth=1, dropout=0.9, num_bins=3, embedding_dim=5)
    x_num, x_cat = torch.randn(6, 2), torch.randint(0, 4, (6, 1))
    assert not torch.equal(model(x_num, x_cat), model(x_num, x_cat))
    assert torch.equal(model.eval()(x_num, x_cat), model(x_num, x_cat))
