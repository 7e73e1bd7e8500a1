"""ModelHyperparameters: feature lists and a few settings of a pipeline's author, and the overrides they stand for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final

from tabstep.config.grammar import written
from tabstep.errors import nearest, raise_problems
from tabstep.launch.pipeline.variables import is_variable

_LISTS: Final = ("full_field_list", "tab_field_list", "cat_field_list")


@dataclass(frozen=True, kw_only=True)
class ModelHyperparameters:
    """Columns and the most used settings of a run; what is None stays as conf/ has it.

    ``full_field_list`` are the columns of the tables; ``tab_field_list`` are read as numbers and ``cat_field_list`` as
    categories. ``overrides`` are further settings, as on the command line: ``("model=resnet", "data.checks=warn")``.
    Label, id and numbers may be variables of a pipeline.

    Raises:
        ProblemsError: names that do not fit together, one line each.

    >>> ModelHyperparameters(
    ...     id_name="id", label_name="y", full_field_list=["id", "y", "a", "b"], tab_field_list=["a"],
    ...     cat_field_list=["b"], learning_rate=0.001, epochs=10,
    ... ).to_overrides()
    ["schema.id='id'", "schema.label='y'", "schema.numeric=['a']", "schema.categorical=['b']", 'optimizer.lr=0.001', \
'trainer.max_epochs=10']
    """

    label_name: str | Any
    full_field_list: Sequence[str]
    tab_field_list: Sequence[str]
    cat_field_list: Sequence[str]
    id_name: str | Any | None = None
    learning_rate: float | Any | None = None
    batch_size: int | Any | None = None
    epochs: int | Any | None = None
    overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        raise_problems(self._problems())

    def to_overrides(self) -> list[str]:
        """Return what a command line would say of all but variables."""
        known = {key: value for key, value in self._values().items() if not is_variable(value)}
        return [f"{key}={written(value)}" for key, value in known.items()] + list(self.overrides)

    def variables(self) -> dict[str, Any]:
        """Return the variables of a pipeline by the keys that they set."""
        return {key: value for key, value in self._values().items() if is_variable(value)}

    def _values(self) -> dict[str, Any]:
        roles = {
            "schema.id": self.id_name,
            "schema.label": self.label_name,
            "schema.numeric": list(self.tab_field_list),
            "schema.categorical": list(self.cat_field_list),
            "optimizer.lr": self.learning_rate,
            "data.batch_size": self.batch_size,
            "trainer.max_epochs": self.epochs,
        }
        return {key: value for key, value in roles.items() if value is not None}

    def _problems(self) -> Iterator[str]:
        wrong = list(self._kind_problems())
        yield from wrong or self._name_problems()
        yield from self._number_problems()

    def _kind_problems(self) -> Iterator[str]:
        for name in (*_LISTS, "overrides"):
            given = getattr(self, name)
            if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(x, str) for x in given):
                yield f"{name}: expected a list of {'overrides' if name == 'overrides' else 'names'}, got {given!r}"
        if not isinstance(self.label_name, str) and not is_variable(self.label_name):
            yield f"label_name: expected the name of a column, got {self.label_name!r}"
        if not isinstance(self.id_name, str | None) and not is_variable(self.id_name):
            yield f"id_name: expected the name of a column or None, got {self.id_name!r}"

    def _number_problems(self) -> Iterator[str]:
        for name, kind in {"learning_rate": Real, "batch_size": Integral, "epochs": Integral}.items():
            value = getattr(self, name)
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            if value is not None and not is_variable(value) and not (is_number and 0 < value < math.inf):
                expected = "a number" if kind is Real else "a whole number"
                yield f"{name}: expected {expected} > 0, got {value!r}"

    def _name_problems(self) -> Iterator[str]:
        for name in _LISTS:
            yield from (
                f"{name}: {field!r} stands {n} times" for field, n in Counter(getattr(self, name)).items() if n > 1
            )
        for name, named in {"id_name": self.id_name, "label_name": self.label_name}.items():
            if isinstance(named, str) and named not in self.full_field_list:
                yield f"{name}: {named!r} is not in full_field_list: {nearest(named, self.full_field_list)}"
        yield from self._feature_problems()

    def _feature_problems(self) -> Iterator[str]:
        roles = ((self.label_name, "the label"), (self.id_name, "the id"))
        targets = {name: role for name, role in roles if isinstance(name, str)}
        for name in ("tab_field_list", "cat_field_list"):
            for field in getattr(self, name):
                if field in targets:
                    yield f"{name}: {field!r} is {targets[field]}, and no feature"
                elif field not in self.full_field_list:
                    yield f"{name}: {field!r} is not in full_field_list: {nearest(field, self.full_field_list)}"
        both = set(self.tab_field_list) & set(self.cat_field_list)
        yield from (f"tab_field_list, cat_field_list: {field!r} is in both: leave it in one" for field in sorted(both))
        if not self.tab_field_list and not self.cat_field_list:
            yield "tab_field_list, cat_field_list: both are empty: name at least one feature"
        if isinstance(self.id_name, str) and self.id_name == self.label_name:
            yield f"id_name, label_name: both are {self.id_name!r}"
