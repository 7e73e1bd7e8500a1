"""What a pipeline's author says of a model, by the names of feature lists, and the overrides that it stands for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabstep.errors import ProblemsError, nearest
from tabstep.schema import Schema


@dataclass(frozen=True, kw_only=True)
class ModelHyperparameters:
    """Columns and the most used settings of a run; what is None stays as conf/ has it.

    ``full_field_list`` are the columns of the tables; ``tab_field_list`` are read as numbers and ``cat_field_list`` as
    categories. ``overrides`` are further settings, as on the command line: ``("model=resnet", "data.checks=warn")``.

    Raises:
        ProblemsError: names that do not fit together, one line each.

    >>> ModelHyperparameters(
    ...     id_name="id", label_name="y", full_field_list=["id", "y", "a", "b"], tab_field_list=["a"],
    ...     cat_field_list=["b"], learning_rate=0.001, epochs=10,
    ... ).to_overrides()
    ["schema.id='id'", "schema.label='y'", "schema.numeric=['a']", "schema.categorical=['b']", 'optimizer.lr=0.001', \
'trainer.max_epochs=10']
    """

    label_name: str
    full_field_list: Sequence[str]
    tab_field_list: Sequence[str]
    cat_field_list: Sequence[str]
    id_name: str | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ProblemsError(problems)

    @property
    def schema(self) -> Schema:
        """The columns by their roles."""
        return Schema(
            id=self.id_name,
            label=(self.label_name,),
            numeric=tuple(self.tab_field_list),
            categorical=tuple(self.cat_field_list),
        )

    def to_overrides(self) -> list[str]:
        """Return what a command line would say."""
        roles = {
            "schema.id": self.id_name,
            "schema.label": self.label_name,
            "schema.numeric": list(self.tab_field_list),
            "schema.categorical": list(self.cat_field_list),
            "optimizer.lr": self.learning_rate,
            "data.batch_size": self.batch_size,
            "trainer.max_epochs": self.epochs,
        }
        return [override(key, value) for key, value in roles.items() if value is not None] + list(self.overrides)

    def _problems(self) -> Iterator[str]:
        lists = {
            "full_field_list": self.full_field_list,
            "tab_field_list": self.tab_field_list,
            "cat_field_list": self.cat_field_list,
        }
        for name, fields in lists.items():
            if isinstance(fields, str):
                yield f"{name}: expected a list of names, got {fields!r}"
                return
            yield from (f"{name}: {field!r} stands {n} times" for field, n in Counter(fields).items() if n > 1)
        for name, named in {"id_name": self.id_name, "label_name": self.label_name}.items():
            if named is not None and named not in self.full_field_list:
                yield f"{name}: {named!r} is not in full_field_list: {nearest(named, self.full_field_list)}"
        yield from self._feature_problems({name: lists[name] for name in ("tab_field_list", "cat_field_list")})
        yield from self._number_problems()

    def _feature_problems(self, features: dict[str, Sequence[str]]) -> Iterator[str]:
        targets = {self.label_name: "the label", self.id_name: "the id"}
        for name, fields in features.items():
            for field in fields:
                if field in targets:
                    yield f"{name}: {field!r} is {targets[field]}, and no feature"
                elif field not in self.full_field_list:
                    yield f"{name}: {field!r} is not in full_field_list: {nearest(field, self.full_field_list)}"
        both = set(self.tab_field_list) & set(self.cat_field_list)
        yield from (f"tab_field_list, cat_field_list: {field!r} is in both: leave it in one" for field in sorted(both))
        if not self.tab_field_list and not self.cat_field_list:
            yield "tab_field_list, cat_field_list: both are empty: name at least one feature"
        if self.id_name is not None and self.id_name == self.label_name:
            yield f"id_name, label_name: both are {self.id_name!r}"

    def _number_problems(self) -> Iterator[str]:
        numbers = {"learning_rate": self.learning_rate, "batch_size": self.batch_size, "epochs": self.epochs}
        yield from (
            f"{name}: must be > 0, got {value}" for name, value in numbers.items() if value is not None and value <= 0
        )


def override(key: str, value: str | float | Sequence[str]) -> str:
    r"""Return an override whose value Hydra reads as just this one.

    >>> print(override("schema.label", "it's"), override("optimizer.lr", 0.001), override("schema.drop", ["a", "b=c"]))
    schema.label='it\'s' optimizer.lr=0.001 schema.drop=['a','b=c']
    """
    if isinstance(value, str):
        return f"{key}={_quoted(value)}"
    if isinstance(value, int | float):
        return f"{key}={json.dumps(value)}"
    return f"{key}=[{','.join(map(_quoted, value))}]"


def _quoted(text: str) -> str:
    body = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", body) + "'"
