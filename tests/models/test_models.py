"""What every model must do, whatever its form."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tabstep import models
from tabstep.errors import UserError
from tabstep.models import MODELS, build_model, find_model

OPTIONS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "depth": 2, "dropout": 0.1, "num_bins": 4, "embedding_dim": 6},
    "resnet": {"width": 16, "depth": 2, "expansion": 2.0, "dropout": 0.1, "num_bins": 4, "embedding_dim": 6},
}
CARDINALITIES = [5, 9]


def build(name: str, num_outputs: int = 3, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    facts: dict[str, Any] = {"num_numeric": 4, "cardinalities": CARDINALITIES, "num_outputs": num_outputs}
    return build_model(name, **(facts | OPTIONS[name] | changes))


def rows(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_cat = torch.stack([torch.randint(0, size, (count,), generator=generator) for size in CARDINALITIES], dim=1)
    return torch.randn(count, 4, generator=generator), x_cat.int()


def test_every_model_is_tested() -> None:
    assert OPTIONS.keys() == MODELS.keys()


@pytest.mark.parametrize("count", [1, 2, 33])
@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_logits_have_a_row_each(name: str, num_outputs: int, count: int) -> None:
    model = build(name, num_outputs)
    for mode in (True, False):
        assert model.train(mode)(*rows(count)).shape == (count, num_outputs)


@pytest.mark.parametrize("changes", [{"num_numeric": 0}, {"cardinalities": []}, {"num_bins": 0}, {"depth": 1}])
@pytest.mark.parametrize("name", MODELS)
def test_edges(name: str, changes: dict[str, Any]) -> None:
    model = build(name, **changes)
    x_num, x_cat = rows(5)
    assert model(
        x_num[:, : changes.get("num_numeric", 4)], x_cat[:, : len(changes.get("cardinalities", "ab"))]
    ).shape == (5, 3)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    model = build(name).eval()
    x_num, x_cat = rows(40)
    together = model(x_num, x_cat)
    torch.testing.assert_close(together[7:8], model(x_num[7:8], x_cat[7:8]))


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str) -> None:
    model = build(name)
    model(*rows(64)).square().sum().backward()
    still = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", MODELS)
def test_a_rule_of_both_kinds_of_columns_is_learned(name: str) -> None:
    x_num, x_cat = rows(512)
    y = ((x_num[:, 0].abs() > 0.7) ^ (x_cat[:, 1] % 2 == 0)).float()
    model = build(name, 1, width=64, dropout=0.0, num_bins=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(x_num, x_cat).squeeze(1), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_all_that_is_stored(name: str) -> None:
    source, target = build(name), build(name)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert source.state_dict().keys() == dict(source.named_parameters()).keys()
    target.load_state_dict(source.state_dict())
    torch.testing.assert_close(source.eval()(*rows(9)), target.eval()(*rows(9)), rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_every_option_has_an_effect(name: str) -> None:
    before = build(name)
    for option, value in OPTIONS[name].items():
        after = build(name, **{option: 0.7 if option == "dropout" else 2 * value})
        torch.manual_seed(0)
        expected = before(*rows(9))
        torch.manual_seed(0)
        assert not torch.equal(after(*rows(9)), expected), option


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_autocast(name: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = build(name)(*rows(9))
    assert logits.isfinite().all()


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.name: no model is called 'mpl'; did you mean 'mlp'\?"):
        find_model("mpl")


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.dropuot: mlp has no such option; did you mean 'dropout'\?"):
        build("mlp", dropuot=0.5)


class Linear(nn.Module):
    """A model of another package."""

    def __init__(self, num_numeric: int, cardinalities: list[int], num_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_numeric, num_outputs)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = self.linear(x_num)
        return logits


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("linear", f"{__name__}:Linear", "tabstep.models"),
        EntryPoint("mlp", f"{__name__}:Linear", "tabstep.models"),
        EntryPoint("number", "math:pi", "tabstep.models"),
    ]
    monkeypatch.setattr(EntryPoint, "load", lambda point: Linear if point.attr == "Linear" else 3.14)
    monkeypatch.setattr(models, "entry_points", lambda group: points)


@pytest.mark.usefixtures("plugins")
def test_an_installed_package_adds_a_model() -> None:
    model = build_model("linear", num_numeric=4, cardinalities=CARDINALITIES, num_outputs=2)
    assert model(*rows(3)).shape == (3, 2)


@pytest.mark.usefixtures("plugins")
def test_a_built_in_name_cannot_be_taken_over() -> None:
    assert find_model("mlp") is MODELS["mlp"]


@pytest.mark.usefixtures("plugins")
def test_an_entry_point_that_is_no_module_is_refused() -> None:
    with pytest.raises(UserError, match=r"entry point 'number' \(math:pi\) is not a torch\.nn\.Module class"):
        find_model("number")
