from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabstep.models.embeddings import (
    MAX_INPUTS,
    PIECE_ROWS,
    SPAN,
    CategoricalEmbedding,
    FeatureEmbedding,
    NumericEmbedding,
)
from tabstep.training.optimizers import build_optimizer


def piecewise(x: Tensor, num_bins: int) -> Tensor:
    """The paper's encoding of one column, by the letter: a loop over bins."""
    edges = torch.linspace(-SPAN, SPAN, num_bins + 1)
    parts = [x]
    for low, high in pairwise(edges):
        parts.append(((x - low) / (high - low)).clamp(0.0, 1.0))
    return torch.stack(parts, dim=1)


@pytest.mark.parametrize("num_bins", [1, 2, 7, 32])
def test_numbers_equal_a_loop_over_columns(num_bins: int) -> None:
    torch.manual_seed(0)
    module = NumericEmbedding(3, num_bins=num_bins, dim=5)
    torch.nn.init.normal_(module.bias)
    x = 2.0 * torch.randn(11, 3)
    columns = [piecewise(x[:, j], num_bins) @ module.weight[j] + module.bias[j] for j in range(3)]
    torch.testing.assert_close(module(x), torch.cat(columns, dim=1).relu(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [PIECE_ROWS + 1, 3 * PIECE_ROWS])
def test_rows_in_pieces_give_the_same_values_and_gradients(rows: int) -> None:
    """A batch whose numbers need a gradient takes the plain expression."""
    torch.manual_seed(0)
    # float64: a sum over so many rows has other last digits in another order
    module = NumericEmbedding(3, num_bins=7, dim=5).double()
    torch.nn.init.normal_(module.bias)
    x, upstream = 2.0 * torch.randn(rows, 3).double(), torch.randn(rows, 15).double()
    made = []
    for numbers in (x, x.clone().requires_grad_()):
        module.zero_grad()
        out = module(numbers)
        out.backward(upstream)
        made.append((out.detach(), module.weight.grad, module.bias.grad))
    for fast, plain in zip(*made, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(module(x), made[1][0], rtol=1e-5, atol=1e-5)


def test_flags_are_passed_on_beside_what_is_embedded() -> None:
    torch.manual_seed(0)
    module = FeatureEmbedding(4, [5], num_bins=4, embedding_dim=3, flags=[1, 2])
    x_num, x_cat = torch.randn(6, 4), torch.randint(0, 5, (6, 1))
    assert module.numeric is not None
    assert module.categorical is not None
    expected = [module.numeric(x_num[:, [0, 3]]), x_num[:, [1, 2]], module.categorical(x_cat)]
    assert torch.equal(module(x_num, x_cat), torch.cat(expected, dim=1))
    assert (module.sections, module.inputs) == ([3, 3, 1, 1, 3], [0, 3, 1, 2, 4])
    plain = FeatureEmbedding(4, [5], num_bins=0, embedding_dim=3, flags=[1, 2])
    assert torch.equal(plain(x_num, x_cat)[:, :4], x_num)


def test_categories_equal_a_loop_over_columns() -> None:
    torch.manual_seed(0)
    cardinalities = [3, 7, 4]
    module = CategoricalEmbedding(cardinalities, dim=5)
    x_cat = torch.stack([torch.randint(0, size, (13,)) for size in cardinalities], dim=1)
    tables = torch.split(module.table.weight, cardinalities)
    expected = torch.cat([F.embedding(x_cat[:, j], table) for j, table in enumerate(tables)], dim=1)
    torch.testing.assert_close(module(x_cat), expected)
    torch.testing.assert_close(module(x_cat.int()), expected)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_codes_that_train_never_shows_stay_at_zero(optimizer: str) -> None:
    torch.manual_seed(0)
    embedding = CategoricalEmbedding([5, 2, 6], dim=4)
    module = nn.Sequential(embedding, nn.Linear(12, 8), nn.Linear(8, 1))
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "betas": [0.9, 0.999]}
    if optimizer == "muon":
        options |= {"hidden_lr": 0.1, "hidden_weight_decay": 0.1, "momentum": 0.9}
    steps = build_optimizer(optimizer, module, **options)
    start = embedding.table.weight.detach().clone()
    for _ in range(5):
        steps.zero_grad()
        module(torch.tensor([[3, 1, 0], [4, 1, 5]])).square().sum().backward()
        steps.step()
    weight = embedding.table.weight.detach()
    # rows 0 to 4 are the first column's, 5 and 6 the second's, 7 to 12 the third's
    assert torch.equal(weight[[0, 1, 2, 5, 8, 9]], torch.zeros(6, 4))
    assert (weight[[3, 4, 6, 7, 12]] != start[[3, 4, 6, 7, 12]]).all()


@pytest.mark.parametrize("num_bins", [0, 4])
@pytest.mark.parametrize(("num_numeric", "cardinalities"), [(3, [4, 5]), (0, [4, 5]), (3, [])])
def test_either_kind_may_have_no_column(num_numeric: int, cardinalities: list[int], num_bins: int) -> None:
    module = FeatureEmbedding(num_numeric, cardinalities, num_bins=num_bins, embedding_dim=6)
    x_cat = torch.zeros(9, len(cardinalities), dtype=torch.int32)
    assert module(torch.randn(9, num_numeric), x_cat).shape == (9, module.output_dim)


def test_many_columns_share_a_bounded_number_of_inputs() -> None:
    module = FeatureEmbedding(3000, [4] * 2000, num_bins=4, embedding_dim=16)
    assert module.output_dim == 5000 * (MAX_INPUTS // 5000)
    assert FeatureEmbedding(30_000, [], num_bins=4, embedding_dim=16).output_dim == 30_000


def test_no_column_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one numeric or categorical column"):
        FeatureEmbedding(0, [], num_bins=4, embedding_dim=8)


def test_an_empty_cardinality_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        FeatureEmbedding(1, [3, 0], num_bins=4, embedding_dim=8)


@pytest.mark.parametrize(
    ("x_num", "x_cat"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 1, dtype=torch.int32)),
        (torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int32)),
        (torch.zeros(3), torch.zeros(1, dtype=torch.int32)),
    ],
)
def test_another_number_of_columns_is_refused(x_num: Tensor, x_cat: Tensor) -> None:
    module = FeatureEmbedding(3, [4], num_bins=4, embedding_dim=8)
    with pytest.raises(ValueError, match=r"built for x_num \(B, 3\) and x_cat \(B, 1\)"):
        module(x_num, x_cat)


def test_a_code_out_of_range_is_no_code_of_the_next_column() -> None:
    module = CategoricalEmbedding([3, 4], dim=2)
    with pytest.raises(IndexError):
        module(torch.tensor([[0, 4]]))
