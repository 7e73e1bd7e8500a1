"""Keys of the group ``schema``: which column is what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tabstep.option_types import Doc


@dataclass(frozen=True, kw_only=True)
class SchemaSettings:
    """Columns by role; what is null is inferred from the Arrow types of the train split."""

    id: Annotated[str | None, Doc("column that identifies a row; copied to the predictions")] = None
    label: Annotated[str | list[str] | None, Doc("column to predict, or the 0/1 columns of a multilabel task")] = None
    weight: Annotated[str | None, Doc("column that says how much a row counts: numbers of 0 and above")] = None
    numeric: Annotated[list[str] | None, Doc("columns that are read as numbers")] = None
    categorical: Annotated[list[str] | None, Doc("columns that are read as categories")] = None
    drop: Annotated[list[str], Doc("columns that are left out")] = field(default_factory=list)
    parse: Annotated[
        dict[str, str], Doc("text that is a number, comma (1.332,3), a date such as %d.%m.%Y, or stays text")
    ] = field(default_factory=dict)
    task: Annotated[Literal["auto", "binary", "multiclass", "multilabel"], Doc("what is predicted")] = "auto"
    classes: Annotated[list[str | int] | None, Doc("values of the label; the last of two is the positive class")] = None
