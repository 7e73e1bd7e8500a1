from __future__ import annotations

import torch
from tests.models.published.compare import Weights, check

from tabstep.models.realmlp import SCALE_RATE, SLOW_RATE, UNIT, OneHot, RealMLP
from tabstep.training.optimizers import hidden_matrices


def new_model(num_numeric: int, cardinalities: list[int], *, width: int, depth: int) -> RealMLP:
    torch.manual_seed(0)
    sizes = {"width": width, "depth": depth, "frequencies": 5, "numeric_dim": 4, "one_hot": 4, "embedding_dim": 6}
    return RealMLP(num_numeric, cardinalities, 3, **sizes, linear=False)  # type: ignore[arg-type]


def ours(published: Weights) -> Weights:
    """Name and scale the weights of pytabkit's layers as ours are, and put its inputs into our order.

    pytabkit has the plain numbers behind all waves, and no input of missing or rare values.
    """
    numbers, _, outputs = published["waves.weight_2"].shape
    waves = "features.numbers.0.layer"
    found = {
        f"{waves}.frequency": published["waves.weight_1"].squeeze(1) / SLOW_RATE,
        f"{waves}.phase_bias": published["waves.bias_1"].squeeze(1) / SLOW_RATE,
        f"{waves}.weight": published["waves.weight_2"] / SLOW_RATE,
        f"{waves}.bias": published["waves.bias_2"] / SLOW_RATE,
        "features.codes.1.layer.table.weight": published["table.emb"],
    }
    plain = [numbers * outputs + place for place in range(numbers)]
    order = [[plain[place], *range(place * outputs, (place + 1) * outputs)] for place in range(numbers)]
    nothing = published["net.0.scale"].shape[1]
    start = numbers * (outputs + 1)
    values = nothing - start - 1 - published["table.emb"].shape[1]
    order += [[nothing, nothing, *range(start, start + values)], [nothing, nothing, *range(start + values, nothing)]]
    places = [place for part in order for place in part]
    scale = torch.cat([published["net.0.scale"][0], torch.zeros(1)])
    found["scale.weight"] = scale[places] / SCALE_RATE
    linears = [name for name in published if name.startswith("net.") and name.endswith(".bias")]
    for index, bias in enumerate(linears):
        at = int(bias.split(".")[1]) - 1
        name = "head" if index + 1 == len(linears) else f"backbone.{3 * index}"
        weight = published[f"net.{at}.weight"]
        if index == 0:
            weight = torch.cat([weight, torch.zeros(1, weight.shape[1])])[places]
            # what a missing input would weigh changes no output, and neither the fan that divides all weights
            weight = weight * (len(places) / nothing) ** 0.5
        found[f"{name}.weight"] = weight.T / UNIT
        found[f"{name}.bias"] = published[bias][0] / SLOW_RATE
        if name != "head":
            found[f"backbone.{3 * index + 1}.weight"] = published[f"net.{at + 2}.weight"][0] / SLOW_RATE
    return found


def test_its_layers_are_the_published_ones() -> None:
    check("realmlp", new_model(3, [7, 5, 12], width=8, depth=2), ours)


def test_codes_are_one_hot() -> None:
    layer = OneHot([6, 5])
    assert layer.sections == [5, 3]
    assert layer(torch.tensor([[0, 3], [1, 4], [2, 0], [5, 1]])).tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, -1],
        [0, 1, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0],
    ]


def test_a_missing_value_that_train_never_shows_changes_nothing_but_learns_where_it_does() -> None:
    model = new_model(1, [7], width=8, depth=1).eval()
    x_num = torch.randn(2, 1)
    logits = model(x_num, torch.tensor([[0], [0]], dtype=torch.int32))
    torch.testing.assert_close(logits, model(x_num, torch.tensor([[1], [1]], dtype=torch.int32)))
    logits.square().sum().backward()
    assert model.scale.weight.grad is not None
    special = model.features.special
    assert model.scale.weight.grad[special].ne(0).tolist() == [True, False]


def test_a_default_layer_begins_with_outputs_like_its_inputs() -> None:
    torch.manual_seed(0)
    first = RealMLP(2, [], 1, frequencies=0, width=400, depth=2, linear=False).backbone[3]
    outputs = first(torch.randn(2_000, 400)).detach()
    assert abs(float(outputs.var()) - 4 / 3) < 0.1


def test_hidden_layers_are_muons() -> None:
    model = new_model(2, [], width=8, depth=2)
    assert [tuple(weight.shape) for weight in hidden_matrices(model)] == [(8, 8), (8, 8)]
