"""What every model must do, whatever its form."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest
import torch
import yaml
from torch import Tensor, nn

import tabstep.models as module
from tabstep.component_source import FACTS
from tabstep.config import key_types
from tabstep.config.parse import check_value
from tabstep.entry import config_dir
from tabstep.errors import UserError
from tabstep.models import build_model, find_model
from tabstep.models.linear import LinearModel
from tabstep.models.probabilities import MEMBER_WEIGHTS, member_weights
from tabstep.registry import MODELS

SMALL = {"width": 16, "depth": 2, "num_bins": 4, "embedding_dim": 6, "members": 3, "rank": 3, "one_hot": 3}
"""Sizes that are enough here, for the options of these names; the others are as conf/ has them."""
NAMES = list(MODELS.ours())
CARDINALITIES = [5, 9]


def options_of(name: str) -> dict[str, Any]:
    config = yaml.safe_load((config_dir() / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert config.pop("name") == name
    return {key: SMALL.get(key, value) for key, value in config.items()}


def without_dropout(name: str) -> dict[str, float]:
    return {option: 0.0 for option in options_of(name) if option.endswith("dropout")}


def build(name: str, num_outputs: int = 3, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    facts: dict[str, Any] = {"num_numeric": 4, "cardinalities": CARDINALITIES, "num_outputs": num_outputs}
    return build_model(name, **(facts | options_of(name) | changes))


def rows(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_cat = torch.stack([torch.randint(0, size, (count,), generator=generator) for size in CARDINALITIES], dim=1)
    return torch.randn(count, 4, generator=generator), x_cat.int()


def logits_of(model: nn.Module, x_num: Tensor, x_cat: Tensor) -> Tensor:
    """Logits ``(B, num_outputs)``, the mean of the members' where a model has several."""
    logits: Tensor = model(x_num, x_cat)
    return logits.mean(dim=1) if logits.ndim == 3 else logits


def test_a_module_with_a_class_of_its_name_is_a_model() -> None:
    assert {"mlp", "resnet"} <= {*NAMES}
    assert "embeddings" not in NAMES


@pytest.mark.parametrize("count", [1, 2, 33])
@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_logits_have_a_row_each(name: str, num_outputs: int, count: int) -> None:
    model = build(name, num_outputs)
    for mode in (True, False):
        assert logits_of(model.train(mode), *rows(count)).shape == (count, num_outputs)


@pytest.mark.parametrize("changes", [{"num_numeric": 0}, {"cardinalities": []}, {"num_bins": 0}, {"depth": 1}])
@pytest.mark.parametrize("name", NAMES)
def test_edges(name: str, changes: dict[str, Any]) -> None:
    options = {"num_numeric", "cardinalities", *options_of(name)}  # a model may have no bins and no depth
    model = build(name, **{key: value for key, value in changes.items() if key in options})
    x_num, x_cat = rows(5)
    x_num, x_cat = x_num[:, : changes.get("num_numeric", 4)], x_cat[:, : len(changes.get("cardinalities", "ab"))]
    assert logits_of(model, x_num, x_cat).shape == (5, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    model = build(name).eval()
    x_num, x_cat = rows(40)
    together = model(x_num, x_cat)
    torch.testing.assert_close(together[7:8], model(x_num[7:8], x_cat[7:8]))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    model = build(name)
    model(*rows(64)).square().sum().backward()
    still = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_of_both_kinds_of_columns_is_learned(name: str) -> None:
    x_num, x_cat = rows(512)
    y = ((x_num[:, 0].abs() > 0.7) ^ (x_cat[:, 1] % 2 == 0)).float()
    bins = {"num_bins": 16} if options_of(name).get("num_bins") else {}
    model = build(name, 1, width=64, **without_dropout(name), **bins)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(logits_of(model, x_num, x_cat).squeeze(1), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_all_that_is_stored(name: str) -> None:
    source, target = build(name), build(name)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    chosen = {MEMBER_WEIGHTS} if member_weights(source) is not None else set()
    assert source.state_dict().keys() == dict(source.named_parameters()).keys() | chosen
    target.load_state_dict(source.state_dict())
    torch.testing.assert_close(source.eval()(*rows(9)), target.eval()(*rows(9)), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_an_effect(name: str) -> None:
    before = begun(build(name))
    for option, value in options_of(name).items():
        annotation = key_types.hints(settings_of(name))[option]
        after = begun(build(name, **{option: another(annotation, value)}))
        torch.manual_seed(0)
        expected = before(*rows(9))
        torch.manual_seed(0)
        assert not torch.equal(after(*rows(9)), expected), option


def begun(model: nn.Module) -> nn.Module:
    """Give the linear part weights, where there is one: it is at zero before it is fitted."""
    if isinstance(model.linear, LinearModel):
        for parameter in model.linear.parameters():
            nn.init.ones_(parameter)
    return model


def settings_of(name: str) -> type:
    return next(cls for cls in MODELS.settings() if key_types.name_of(cls) == name)


def another(annotation: Any, value: Any) -> Any:
    """Another value that the annotation allows."""
    candidates = [not value] if isinstance(value, bool) else [*key_types.choices(annotation), None, 0.7, False]
    candidates = [2 * value, *candidates] if isinstance(value, int | float) else candidates
    return next(each for each in candidates if each != value and not check_value("", annotation, each))


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_options_in_the_source_are_those_of_the_class(name: str) -> None:
    """What is read without an import is what Python itself says of the constructor."""
    model = find_model(name)
    hints = get_type_hints(model.__init__, include_extras=True)
    parameters = list(inspect.signature(model).parameters)
    assert tuple(parameters[:3]) == MODELS.given
    declared = MODELS.options(name)
    assert declared is not None
    own = [key for key in parameters[3:] if key not in FACTS]
    assert {key: option.annotation for key, option in declared.items()} == {key: hints[key] for key in own}
    defaults = {key: inspect.signature(model).parameters[key].default for key in own}
    assert {key: option.default for key, option in declared.items()} == defaults


def test_a_class_that_is_no_module_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"model\.name: 'decimal:Decimal' \(decimal:Decimal\) is not a torch\.nn\.Module"
    ):
        find_model("decimal:Decimal")


class Linear(nn.Module):
    """A model of another package."""

    def __init__(self, num_numeric: int, cardinalities: list[int], num_outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(num_numeric, num_outputs, bias=bias)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        logits: Tensor = self.linear(x_num)
        return logits


def test_a_class_by_its_path_takes_its_own_options() -> None:
    facts: dict[str, Any] = {"num_numeric": 4, "cardinalities": CARDINALITIES, "num_outputs": 2}
    model = build_model(f"{__name__}:Linear", **facts, bias=False)
    assert model(*rows(3)).shape == (3, 2)
    assert [key for key, _ in model.named_parameters()] == ["linear.weight"]
    with pytest.raises(UserError, match=r"model\.bais: .*:Linear has no such option; did you mean 'bias'\?"):
        build_model(f"{__name__}:Linear", **facts, bais=False)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_that_no_memory_holds_are_a_line(name: str) -> None:
    with pytest.raises(UserError, match=f"^model: {name} of these sizes is larger than any memory: lower model.width$"):
        build(name, width=2**62)


class Wide(nn.Module):
    """Its hidden layer is wider than its option says, beyond what 64 bits hold."""

    def __init__(self, num_numeric: int, cardinalities: list[int], num_outputs: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_numeric, 3 * width)


def test_a_size_beyond_this_machine_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"asks for [\d,]+ GiB at once, .* has [\d,]+: lower model\.width$"):
        build_model("mlp", num_numeric=4, cardinalities=[], num_outputs=2, width=2**34)
    # what fits into the machine, and not beside others, may be tried again
    monkeypatch.setattr(module, "machine_memory", lambda: 2**80)
    with pytest.raises(RuntimeError, match="allocate"):
        build_model("mlp", num_numeric=4, cardinalities=[], num_outputs=2, width=2**34)


def test_a_size_beyond_64_bits_is_the_same_line() -> None:
    with pytest.raises(UserError, match=r"Wide of these sizes is larger than any memory: lower model\.width$"):
        build_model(f"{__name__}:Wide", num_numeric=4, cardinalities=[], num_outputs=2, width=2**62)
