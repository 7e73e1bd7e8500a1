from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tabstep.models.resnet import ResidualBlock, ResNet


def test_a_block_equals_the_papers_formula() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(6, 12, dropout=0.5).eval(), torch.randn(5, 6)
    wide, narrow = (layer for layer in block.layers if isinstance(layer, nn.Linear))
    hidden = F.relu(F.layer_norm(x, (6,)) @ wide.weight.T + wide.bias)
    torch.testing.assert_close(block(x), x + hidden @ narrow.weight.T + narrow.bias)


def test_expansion_is_a_multiple_of_the_width() -> None:
    model = ResNet(2, [], 1, width=10, depth=3, expansion=1.5, dropout=0.0, num_bins=0, embedding_dim=4)
    assert len(model.blocks) == 3
    for block in model.blocks:
        assert isinstance(block, ResidualBlock)
        assert [layer.out_features for layer in block.layers if isinstance(layer, nn.Linear)] == [15, 10]
