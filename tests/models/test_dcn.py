from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.models.published.compare import Weights, check
from torch import Tensor, nn

from tabstep.models.dcn import DCN
from tabstep.training.optimizers import hidden_matrices


class Crosses(nn.Module):
    """A DCN that returns what its cross layers do, as the published part has no more."""

    def __init__(self, num_numeric: int, cardinalities: list[int], *, width: int, depth: int, rank: int) -> None:
        super().__init__()
        sizes = {"crosses": depth, "rank": rank, "embedding_dim": width, "num_bins": 0}
        model = DCN(num_numeric, cardinalities, 3, **sizes, linear=False)  # type: ignore[arg-type]
        self.features, self.crosses = model.features, model.crosses

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        x = embedded = self.features(x_num, x_cat)
        for cross in self.crosses:
            x = cross(embedded, x)
        return x


def ours(rank: int) -> Callable[[Weights], Weights]:
    """Name the weights of torchrec's ``CrossNet`` or ``LowRankCrossNet``, and of a table a column, as ours are."""

    def translate(published: Weights) -> Weights:
        tables = [each for name, each in published.items() if name.startswith("tables.")]
        found = {"features.categorical.table.weight": torch.cat(tables)}
        for name, each in published.items():
            _, kind, place = name.split(".")
            if kind == "bias":
                found[f"crosses.{place}.matrix{'.1' if rank else ''}.bias"] = each.flatten()
            elif name.startswith("cross."):
                part = {"kernels": "", "V_kernels": ".0", "W_kernels": ".1"}[kind]
                found[f"crosses.{place}.matrix{part}.weight"] = each
        return found

    return translate


@pytest.mark.parametrize(("fixture", "rank"), [("dcn", 0), ("dcn_low_rank", 3)])
def test_its_cross_layers_are_the_published_ones(fixture: str, rank: int) -> None:
    check(fixture, Crosses(3, [4, 6], width=4, depth=2, rank=rank), ours(rank))


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_the_perceptron_is_beside_or_above(structure: str) -> None:
    torch.manual_seed(0)
    sizes = {"crosses": 2, "rank": 2, "width": 8, "depth": 1, "num_bins": 3, "embedding_dim": 4}
    model = DCN(2, [4], 3, **sizes, structure=structure, linear=False).eval()  # type: ignore[arg-type]
    x = crossed = model.features(x_num := torch.randn(5, 2), x_cat := torch.randint(0, 4, (5, 1)))
    for cross in model.crosses:
        v, u = cross.matrix  # type: ignore[misc]
        crossed = x * (crossed @ v.weight.T @ u.weight.T + u.bias) + crossed
    deep = model.backbone[0]
    hidden = ((crossed if structure == "stacked" else x) @ deep.weight.T + deep.bias).relu()
    read = hidden if structure == "stacked" else torch.cat([crossed, hidden], dim=1)
    torch.testing.assert_close(model(x_num, x_cat), read @ model.head.weight.T + model.head.bias)


def test_matrices_of_cross_layers_are_muons() -> None:
    model = DCN(2, [4], 1, crosses=1, rank=2, width=8, depth=1, num_bins=3, embedding_dim=4)
    assert [tuple(weight.shape) for weight in hidden_matrices(model)] == [(2, 12), (12, 2), (8, 12)]
