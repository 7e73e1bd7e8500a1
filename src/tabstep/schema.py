"""Which column is what: declared by the user or inferred from the table, never fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tabstep.errors import ProblemsError

Task = Literal["binary", "multiclass", "multilabel"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_ROLES = "id, label, weight, numeric and categorical"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns of a table by their role.

    ``parse`` has the columns of text that are read by a format, and the formats. ``label`` holds one name, or the names
    of the 0/1 columns of a multilabel task. Order matters: it is the order of
    the model's inputs and outputs. ``weight`` says how much a row counts; a prediction needs no such column.

    Raises:
        ProblemsError: a column has two roles or stands twice, or there is no label or no feature.

    >>> schema = Schema(label=("target",), numeric=("age",), categorical=("job",), id="row_id")
    >>> schema.features, schema.columns
    (('age', 'job'), ('row_id', 'target', 'age', 'job'))
    """

    label: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    id: str | None = None
    parse: tuple[tuple[str, str], ...] = ()
    weight: str | None = None

    def __post_init__(self) -> None:
        problems = [
            f"schema: column {name!r} has {count} roles among {_ROLES}: give it one"
            for name, count in Counter((*self.columns, *self.weights)).items()
            if count > 1
        ]
        if not self.label:
            problems.append("schema.label: is missing: name the column to predict")
        if not self.features:
            problems.append("schema: no feature column is left: set schema.numeric or schema.categorical")
        if problems:
            raise ProblemsError(problems)

    @property
    def features(self) -> tuple[str, ...]:
        """Model inputs: numeric first, then categorical."""
        return self.numeric + self.categorical

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read from a table with labels, but for the weight of its rows."""
        return (() if self.id is None else (self.id,)) + self.label + self.features

    @property
    def weights(self) -> tuple[str, ...]:
        """The column of row weights, or none."""
        return () if self.weight is None else (self.weight,)

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return {
            "id": self.id,
            "label": list(self.label),
            "numeric": list(self.numeric),
            "categorical": list(self.categorical),
            "parse": dict(self.parse),
            # Absent rather than null: what was written before there were weights stays what it is.
            **({} if self.weight is None else {"weight": self.weight}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """Rebuild what ``to_dict`` returned."""
        return cls(
            id=data["id"],
            label=tuple(data["label"]),
            numeric=tuple(data["numeric"]),
            categorical=tuple(data["categorical"]),
            parse=tuple(data["parse"].items()),
            weight=data.get("weight"),
        )
