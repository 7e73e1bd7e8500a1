"""Models by name. A model knows numbers and tensors only: ``(x_num, x_cat) -> logits``.

Each module here with a class of its own name is a model, and the options of that class are the keys of the
configuration (see ``tabstep.registry``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from tabstep.errors import UserError
from tabstep.registry import MODELS
from tabstep.system.memory import machine_memory

__all__ = ["build_model", "check_options", "find_model"]


def find_model(name: str) -> type[nn.Module]:
    """Return the class of a model: one of ours, one that an installed package registered, or ``package.module:Name``.

    >>> find_model("mlp").__name__
    'MLP'
    """
    loaded = MODELS.load(name)
    if not (isinstance(loaded, type) and issubclass(loaded, nn.Module)):
        raise UserError(f"model.name: {name!r} ({MODELS.find(name)}) is not a torch.nn.Module class")
    return loaded


def check_options(name: str, options: Iterable[str]) -> None:
    """Refuse the options that a model does not take: every one of them, with the nearest name.

    Raises:
        ProblemsError: one line each. UserError: there is no such model.

    >>> check_options("mlp", ["width", "dropuot"])
    Traceback (most recent call last):
    tabstep.errors.ProblemsError: model.dropuot: mlp has no such option; did you mean 'dropout'?
    """
    find_model(name)
    MODELS.check(name, options)


def build_model(
    name: str,
    *,
    num_numeric: int,
    cardinalities: Sequence[int],
    num_outputs: int,
    flags: Sequence[int] = (),
    **options: Any,
) -> nn.Module:
    """Build a model for a fitted table: ``num_numeric`` columns of ``x_num``, one cardinality a column of ``x_cat``.

    ``flags`` are the columns of ``x_num`` that are 0 or 1, for a model whose constructor has an argument of that name.

    Raises ``UserError`` for an unknown name, an option that the model does not take, or sizes beyond any memory.

    >>> options = dict(width=8, depth=1, dropout=0.0, num_bins=0, embedding_dim=4)
    >>> build_model("mlp", num_numeric=2, cardinalities=[5], num_outputs=1, **options).head
    Linear(in_features=8, out_features=1, bias=True)
    """
    check_options(name, options)
    model = find_model(name)
    facts = {"flags": list(flags)} if "flags" in inspect.signature(model).parameters else {}
    try:
        return model(num_numeric, list(cardinalities), num_outputs, **facts, **options)
    except (RuntimeError, TypeError, OverflowError) as error:  # torch names a size beyond 64 bits a wrong type
        if isinstance(error, OverflowError) or "overflow" in str(error).lower():
            raise UserError(f"model: {name} of these sizes is larger than any memory: lower model.width") from error
        asked = re.search(r"tried to allocate (\d+) bytes", str(error))
        if asked is None or int(asked[1]) <= machine_memory():
            raise  # memory that others hold may be free later
        raise UserError(
            f"model: {name} of these sizes asks for {int(asked[1]) / 2**30:,.0f} GiB at once, and this machine has "
            f"{machine_memory() / 2**30:,.0f}: lower model.width"
        ) from error
