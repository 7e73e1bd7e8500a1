"""Models by name. A model knows numbers and tensors only: ``(x_num, x_cat) -> logits``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from tabstep.errors import UserError, nearest
from tabstep.models.mlp import MLP
from tabstep.models.resnet import ResNet
from tabstep.models.tabm import TabM

MODELS: dict[str, type[nn.Module]] = {"mlp": MLP, "resnet": ResNet, "tabm": TabM}
ENTRY_POINTS = "tabstep.models"

__all__ = ["ENTRY_POINTS", "MLP", "MODELS", "ResNet", "TabM", "build_model", "find_model"]


def find_model(name: str) -> type[nn.Module]:
    """Return the class of a model: one of ``MODELS``, else one that an installed package registered.

    A package registers with an entry point of the group ``tabstep.models``; a built-in name cannot be taken over.

    >>> find_model("mlp").__name__
    'MLP'
    """
    if name in MODELS:
        return MODELS[name]
    plugins = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in plugins:
        raise UserError(f"model.name: no model is called {name!r}; {nearest(name, [*MODELS, *plugins])}")
    loaded = plugins[name].load()
    if not (isinstance(loaded, type) and issubclass(loaded, nn.Module)):
        raise UserError(f"model.name: entry point {name!r} ({plugins[name].value}) is not a torch.nn.Module class")
    return loaded


def build_model(
    name: str, *, num_numeric: int, cardinalities: Sequence[int], num_outputs: int, **options: Any
) -> nn.Module:
    """Build a model for a fitted table: ``num_numeric`` columns of ``x_num``, one cardinality a column of ``x_cat``.

    Raises ``UserError`` for an unknown name, or an option that the model does not take.

    >>> options = dict(width=8, depth=1, dropout=0.0, num_bins=0, embedding_dim=4)
    >>> build_model("mlp", num_numeric=2, cardinalities=[5], num_outputs=1, **options).head
    Linear(in_features=8, out_features=1, bias=True)
    """
    model = find_model(name)
    known = list(inspect.signature(model).parameters)
    for option in options:
        if option not in known:
            raise UserError(f"model.{option}: {name} has no such option; {nearest(option, known[3:])}")
    return model(num_numeric, list(cardinalities), num_outputs, **options)
