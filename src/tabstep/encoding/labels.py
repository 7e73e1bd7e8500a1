"""Labels: which task they make, the classes in order, and the codes of a label column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tabstep.errors import UserError, nearest
from tabstep.schema import Task
from tabstep.tables.column_types import value_kind
from tabstep.tables.record_batch import get_column, numbers, texts

Label = str | int | bool
LabelKind = Literal["boolean", "number", "text"]

MAX_CLASSES: Final = 1_000
_KIND_OF: Final[dict[type, LabelKind]] = {bool: "boolean", int: "number", str: "text"}


def label_kind(name: str, dtype: pa.DataType) -> LabelKind:
    """Return what the values of a label column of this type are.

    Raises:
        UserError: a label of this type has no classes.
    """
    kind = value_kind(dtype)
    if kind == "text" or kind == "number" or kind == "boolean":
        return kind
    if kind == "nothing":
        raise UserError(f"column {name!r} is null in every row: set schema.label to another column")
    raise UserError(f"column {name!r} has type {dtype}: labels are strings, integers or booleans; convert it")


def class_text(value: Label) -> str:
    """Return the canonical text of a class, the same that ``columns.to_text`` gives.

    >>> class_text(True), class_text(3), class_text("no")
    ('true', '3', 'no')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def class_value(text: str, kind: LabelKind) -> Label:
    """Return the value behind a canonical text; ``ValueError`` or ``OverflowError`` where the kind has none."""
    if kind == "text":
        return text
    if kind == "number":
        number = int(text)
        if not -(2**63) <= number < 2**63:
            raise OverflowError(text)
        return number
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


LabelPart: TypeAlias = pa.Array | np.ndarray
"""The labels of one batch: text, or the flags of a multilabel task."""


class LabelFit:
    """Collects the distinct labels, batch by batch, and decides on task and classes.

    ``where`` begins each message: the setting that names the table.

    >>> table = pa.table({"y": ["no", "yes", "no"]})
    >>> labels = LabelFit(table.schema, ["y"], task=None, declared=None, where="data.train")
    >>> labels.add(table.to_batches()[0], 0).tolist()
    [[0], [1], [0]]
    >>> labels.finish()
    ('binary', ('no', 'yes'))
    """

    def __init__(
        self,
        schema: pa.Schema,
        names: Sequence[str],
        *,
        task: Task | None,
        declared: Sequence[Label] | None,
        where: str,
    ) -> None:
        self._names = tuple(names)
        self._where = where
        self._kind = label_kind(names[0], schema.field(names[0]).type)
        self._task = "multilabel" if task is None and len(names) > 1 else task
        self._seen: dict[str, int] = {}
        self._first_rows: list[int] = []
        if self._task != "multilabel" and len(names) > 1:
            raise UserError(f"schema.task: {task} has one label column, schema.label has {len(names)}")
        if self._task == "multilabel":
            self._check_flags(schema, declared)
        self._declared = None if declared is None or self._task == "multilabel" else self._declare(declared)

    @property
    def width(self) -> int:
        """Number of columns that ``add`` returns."""
        return len(self._names)

    def add(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Take the labels of ``batch``; a null or an undeclared one is an error that names its row.

        Return ``(n, width)``: the number of each label in the order of first appearance, or the flags of a multilabel
        task.
        """
        return self.merge(self.part(batch, first_row), first_row)

    def part(self, batch: pa.RecordBatch, first_row: int) -> LabelPart:
        """Return what ``merge`` takes of ``batch``; changes nothing, so that threads may call it."""
        if self._task == "multilabel":
            return flags(batch, self._names, first_row=first_row, where=self._where)
        return label_texts(batch, self._names[0], first_row=first_row, where=self._where)

    def merge(self, text: LabelPart, first_row: int) -> np.ndarray:
        """Take the labels of the next batch, as ``add`` does."""
        if isinstance(text, np.ndarray):
            flagged: np.ndarray = text
            return flagged
        # a batch has few distinct labels: these alone become objects
        for value in pc.unique(text).to_pylist():
            if value not in self._seen:
                self._see(value, first_row + pc.index(text, value).as_py())
        codes: np.ndarray = pc.index_in(text, value_set=pa.array(list(self._seen), pa.string())).to_numpy()
        return codes[:, None]

    def _see(self, value: str, row: int) -> None:
        self._check(value, row)
        self._seen[value] = len(self._seen)
        self._first_rows.append(row)

    def join(self, other: LabelFit, added: np.ndarray) -> np.ndarray:
        """Take the labels of the rows that follow, and return as this fit numbers them what ``other.add`` returned.

        Raises:
            UserError: there are too many classes.
        """
        if self._task == "multilabel":
            return added
        for value, row in zip(other._seen, other._first_rows, strict=True):
            if value not in self._seen:
                self._see(value, row)
        numbers: np.ndarray = np.array([self._seen[value] for value in other._seen])[added.astype(np.int64)]
        return numbers

    def targets(self, added: np.ndarray) -> np.ndarray:
        """Return ``(n, outputs)`` of what ``add`` returned for some rows: 0 or 1 for each class or label."""
        if self._task == "multilabel":
            return added
        targets: np.ndarray = (added == np.arange(len(self._seen))).astype(np.float64)
        return targets

    def finish(self) -> tuple[Task, tuple[Label, ...]]:
        """Return the task and its classes in order; the second of two is the positive one."""
        if self._task == "multilabel":
            return "multilabel", self._names
        column = f"{self._where}: column {self._names[0]!r}"
        if len(self._seen) < 2:
            only = ", ".join(map(repr, self._seen))
            raise UserError(f"{column} has a single class ({only}): check the rows, or set schema.label")
        # by value and not by text: class 10 stands behind class 9
        classes = self._declared or tuple(sorted(class_value(text, self._kind) for text in self._seen))
        if self._task == "binary" and len(classes) != 2:
            raise UserError(
                f"schema.task: binary has two classes, {column} has {len(classes)}: set schema.task=multiclass"
            )
        return self._task or ("binary" if len(classes) == 2 else "multiclass"), classes

    def _check_flags(self, schema: pa.Schema, declared: Sequence[Label] | None) -> None:
        if declared is not None and list(declared) != list(self._names):
            raise UserError("schema.classes: those of a multilabel task are its label columns: leave it out")
        for name in self._names:
            dtype = schema.field(name).type
            if label_kind(name, dtype) == "text":
                raise UserError(f"{self._where}: column {name!r} has type {dtype}: a multilabel task has 0/1 columns")

    def _check(self, text: str, row: int) -> None:
        place = f"{self._where}: column {self._names[0]!r}, row {row}"
        if self._declared is not None:
            known = [class_text(value) for value in self._declared]
            if text not in known:
                raise UserError(f"{place}: {text!r} is not in schema.classes: {nearest(text, known)}")
            return
        try:
            class_value(text, self._kind)
        except ValueError:
            raise UserError(f"{place}: {text} is no integer: a label is a class; cut a quantity into classes") from None
        except OverflowError:
            raise UserError(f"{place}: {text} has more than 64 bits with its sign: write the labels as text") from None
        if len(self._seen) >= MAX_CLASSES:
            raise UserError(f"{place}: more than {MAX_CLASSES:,} classes: is it an id or a quantity? set schema.label")

    def _declare(self, declared: Sequence[Label]) -> tuple[Label, ...]:
        # YAML reads yes, no and on as booleans
        for value in declared:
            if isinstance(value, bool) and self._kind == "text":
                raise UserError(f"schema.classes: {class_text(value)} is a boolean, the labels are text: quote it")
        try:
            classes = tuple(class_value(class_text(value), self._kind) for value in declared)
        except (ValueError, OverflowError) as error:
            wanted = "true or false" if self._kind == "boolean" else "an integer"
            raise UserError(f"schema.classes: each must be {wanted} as in {self._names[0]!r}: {error}") from None
        if len(set(classes)) < max(2, len(classes)):
            raise UserError(f"schema.classes: at least two different values are due, got {list(declared)}")
        return classes


def label_texts(batch: pa.RecordBatch, name: str, *, first_row: int, where: str) -> pa.Array:
    """Return the canonical text of the labels; raises on a null."""
    text = texts(batch, name)
    if text.null_count:
        row = first_row + int(np.argmax(text.is_null().to_numpy(zero_copy_only=False)))
        raise UserError(f"{where}: column {name!r} is null in row {row}: drop the rows without a label")
    return text


def class_codes(
    batch: pa.RecordBatch, name: str, classes: Sequence[Label], *, first_row: int, where: str
) -> np.ndarray:
    """Return ``(n,)`` int64: the position of each label in ``classes``.

    Raises:
        UserError: a label is null, of another kind than the classes or not among them.
    """
    dtype = get_column(batch, name).type
    if label_kind(name, dtype) != _KIND_OF[type(classes[0])]:
        raise UserError(f"{where}: column {name!r} has type {dtype}, a {_KIND_OF[type(classes[0])]} is due: convert it")
    text = label_texts(batch, name, first_row=first_row, where=where)
    known = [class_text(value) for value in classes]
    codes = pc.index_in(text, value_set=pa.array(known, pa.string()))
    if codes.null_count:
        index = int(np.argmax(codes.is_null().to_numpy(zero_copy_only=False)))
        value, row = text[index].as_py(), first_row + index
        raise UserError(f"{where}: column {name!r}, row {row}: {value!r} is no class: {nearest(value, known)}")
    positions: np.ndarray = codes.to_numpy(zero_copy_only=False).astype(np.int64)
    return positions


def flags(batch: pa.RecordBatch, names: Sequence[str], *, first_row: int, where: str) -> np.ndarray:
    """Return ``(n, len(names))`` float32 of the 0/1 or boolean columns of a multilabel task.

    Raises:
        UserError: a value is null or neither 0 nor 1.
    """
    result = np.empty((batch.num_rows, len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        values = numbers(batch, name)
        valid = (values == 0) | (values == 1)
        if not valid.all():
            position = int(np.argmin(valid))
            bad = get_column(batch, name)[position].as_py()
            raise UserError(
                f"{where}: column {name!r}, row {first_row + position}: {'null' if bad is None else bad}"
                " where 0 or 1 is due: a multilabel task has 0/1 columns"
            )
        result[:, index] = values
    return result
