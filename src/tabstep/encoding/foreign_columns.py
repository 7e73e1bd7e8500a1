"""Inputs that a class of another package makes of a column, beside those that every column of its kind has.

The class is fitted on train in a pass over its column alone. What it has fitted is plain JSON in ``encoder.json``, and
its code goes with the model. It sees what the encoder makes of a column, the same in training and in a request: float64
of a numeric one, text of a category, null where a value is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from tabstep.component_source import find_file
from tabstep.errors import UserError, nearest
from tabstep.registry import ENCODERS, PluginSettings
from tabstep.schema import Schema
from tabstep.tables.record_batch import numbers, texts
from tabstep.tables.source import ParquetSource

_METHODS: Final = ("fit", "transform", "to_dict", "from_dict")


class ColumnEncoder(Protocol):
    """What a class of another package has to have; its constructor's arguments are its options."""

    def fit(self, values: Iterator[pa.Array]) -> None:
        """Learn from the column of train, in pieces of float64 or of text."""

    def transform(self, values: pa.Array) -> np.ndarray:
        """Return ``(n, k)`` finite numbers, each row by itself; ``k`` is the same for any ``n``, 0 included."""

    def to_dict(self) -> dict[str, Any]:
        """Return what was fitted, in plain containers."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ColumnEncoder:
        """Return what ``to_dict`` was called of."""


@dataclass(frozen=True, kw_only=True)
class OwnOptions:
    """Which class encodes a column, and how; ``code`` is a digest of its source, or its version."""

    column: str
    name: str
    options: Mapping[str, Any]
    code: str


def own_options(columns: Mapping[str, PluginSettings]) -> tuple[OwnOptions, ...]:
    """Return what ``data.encoder.columns`` asks for."""
    return tuple(
        OwnOptions(column=column, name=part.name, options=part.options, code=_code(part.name))
        for column, part in columns.items()
    )


def _code(name: str) -> str:
    """Return what changes with the code of a component: what it has made is kept in the cache."""
    package = ENCODERS.distribution(name)
    # by its file, which is not imported: what it does at import has no place here
    file = find_file((ENCODERS.find(name) or "").partition(":")[0])
    source = "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return source if package is None else f"{package.version} {source}".strip()


@dataclass(frozen=True, kw_only=True)
class OwnColumn:
    """A column as a class of another package was fitted to it: ``width`` inputs, and its own state."""

    column: str
    name: str
    code: str
    width: int
    state: Mapping[str, Any] = field(hash=False)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns of ``inputs``."""
        what = self.name.rpartition(":")[2]
        return tuple(f"{self.column}: {what} {number}" for number in range(1, self.width + 1))

    @cached_property
    def _fitted(self) -> ColumnEncoder:
        made: ColumnEncoder = _class(self.name, self.column).from_dict(self.state)
        return made

    def inputs(self, values: pa.Array) -> np.ndarray:
        """Return ``(n, width)`` float32.

        Raises:
            UserError: the class fails, or returns anything but finite numbers of this shape.
        """
        return _numbers(self._fitted, values, self.column, self.name, self.width)

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, ready for JSON."""
        return vars_of(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OwnColumn:
        """Rebuild what ``to_dict`` returned, also after a round trip through JSON."""
        return cls(**data)


def vars_of(column: OwnColumn) -> dict[str, Any]:
    """Return the fields, without what is cached beside them."""
    return {name: getattr(column, name) for name in ("column", "name", "code", "width", "state")}


def check_own(wanted: Sequence[OwnOptions], schema: Schema) -> None:
    """Raise ``UserError`` where a column is no feature, or a name no class that encodes."""
    for own in wanted:
        if own.column not in schema.features:
            known = nearest(own.column, schema.features)
            raise UserError(f"data.encoder.columns: {own.column!r} is no column that the model is given: {known}")
        _class(own.name, own.column)


def fit_own(source: ParquetSource, schema: Schema, wanted: Sequence[OwnOptions]) -> tuple[OwnColumn, ...]:
    """Fit each on its column of train, which is read once more, alone.

    Raises:
        UserError: a class fails, or its state is no JSON from which it is the same again.
    """
    return tuple(_fit(source, schema, own) for own in wanted)


def _fit(source: ParquetSource, schema: Schema, own: OwnOptions) -> OwnColumn:
    place = f"data.encoder.columns.{own.column}"
    made = ENCODERS.make(PluginSettings(name=own.name, options=dict(own.options)), path=place)
    try:
        made.fit(
            values_of(batch, own.column, numeric=own.column in schema.numeric) for batch in source.batches([own.column])
        )
        state = made.to_dict()
        # through text, as it will be read: NaN, tuples and numpy's numbers do not come back as they were
        kept = json.loads(json.dumps(state, allow_nan=False))
    except UserError:
        raise
    except Exception as error:  # of somebody else's code
        raise UserError(f"{place}: {own.name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if kept != state:
        raise UserError(f"{place}: {own.name}: to_dict is not what JSON gives back: use text, numbers, lists and dicts")
    # of no row: the width must not hang on what rows hold
    empty = pa.array([], pa.float64() if own.column in schema.numeric else pa.string())
    width = _numbers(made, empty, own.column, own.name, None).shape[1]
    return OwnColumn(column=own.column, name=own.name, code=own.code, width=width, state=kept)


def values_of(batch: pa.RecordBatch, column: str, *, numeric: bool) -> pa.Array:
    """Return what a class is given of a column: float64 or text, null where a value is missing."""
    return pa.array(numbers(batch, column), from_pandas=True) if numeric else texts(batch, column)


def _class(name: str, column: str) -> Any:
    found = ENCODERS.load(name)
    lacks = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if lacks:
        raise UserError(f"data.encoder.columns.{column}: {name} has no {', '.join(lacks)}: docs/extending.md has one")
    return found


def _numbers(made: ColumnEncoder, values: pa.Array, column: str, name: str, width: int | None) -> np.ndarray:
    place = f"data.encoder.columns.{column}: {name}"
    try:
        found = np.asarray(made.transform(values), dtype=np.float32)
    except Exception as error:  # of somebody else's code
        raise UserError(f"{place}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if found.ndim != 2 or len(found) != len(values) or (width is not None and found.shape[1] != width):
        due = "k" if width is None else width
        raise UserError(f"{place}: transform returned the shape {found.shape} where ({len(values)}, {due}) is due")
    if not np.isfinite(found).all():
        raise UserError(f"{place}: transform returned a number that is not finite in row {_row(found)} of a batch")
    return found


def _row(found: np.ndarray) -> int:
    return int(np.argwhere(~np.isfinite(found))[0][0])
