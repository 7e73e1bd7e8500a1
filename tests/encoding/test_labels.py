from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tabstep.encoding.labels import Label, LabelFit, class_codes, flags
from tabstep.errors import UserError
from tabstep.schema import Task

BIG = 2**53


def fit(
    *columns: pa.Array, task: Task | None = None, classes: Sequence[Label] | None = None
) -> tuple[Task, tuple[Label, ...]]:
    names = ["y", "y2", "y3"][: len(columns)]
    table = pa.table(list(columns), names=names)
    labels = LabelFit(table.schema, names, task=task, declared=classes, where="data.train")
    row = 0
    for batch in table.to_batches(max_chunksize=2):
        labels.add(batch, row)
        row += batch.num_rows
    return labels.finish()


def codes(values: pa.Array, classes: Sequence[Label]) -> list[int]:
    batch = pa.record_batch({"y": values})
    result = class_codes(batch, "y", classes, first_row=10, where="data.val")
    assert result.dtype == np.int64
    return [int(code) for code in result]


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (pa.array(["yes", "no", "no"]), "binary", ("no", "yes")),
        (pa.array([1, 0, 1], pa.uint8()), "binary", (0, 1)),
        (pa.array([10, 9, -1]), "multiclass", (-1, 9, 10)),
        (pa.array([True, False]), "binary", (False, True)),
        (pa.array([1.0, 2.0, 1.0]), "binary", (1, 2)),
        (pa.array([Decimal("1.00"), Decimal("2.00")]), "binary", (1, 2)),
        (pa.array([BIG, BIG + 1, BIG + 2]), "multiclass", (BIG, BIG + 1, BIG + 2)),
        (pa.array(["b", "a"]).dictionary_encode(), "binary", ("a", "b")),
        (pa.array(["b", "a"], pa.large_string()), "binary", ("a", "b")),
        (pa.array(["", "a"]), "binary", ("", "a")),
    ],
)
def test_inferred_task_and_classes(values: pa.Array, task: Task, classes: tuple[Label, ...]) -> None:
    assert fit(values) == (task, classes)
    assert [type(value) for value in fit(values)[1]] == [type(value) for value in classes]
    expected = [classes.index(value) for value in values.to_pylist()]
    assert codes(values, classes) == expected


def test_declared_classes_keep_their_order() -> None:
    assert fit(pa.array(["yes", "no"]), classes=["yes", "no"]) == ("binary", ("yes", "no"))
    assert fit(pa.array([1, 0]), classes=["1", "0"]) == ("binary", (1, 0))
    assert fit(pa.array([True, False]), classes=["true", "False"]) == ("binary", (True, False))
    assert fit(pa.array(["1", "0"]), classes=[1, 0]) == ("binary", ("1", "0"))
    assert fit(pa.array(["a", "b"]), classes=["a", "b", "c"]) == ("multiclass", ("a", "b", "c"))
    assert fit(pa.array(["a", "b"]), task="multiclass") == ("multiclass", ("a", "b"))


REFUSED: list[tuple[str, pa.Array, dict[str, Any], str]] = [
    ("null", pa.array(["a", "b", "b", None]), {}, r"data.train: column 'y' is null in row 3: drop the rows"),
    ("nan", pa.array([1.0, float("nan")]), {}, r"data.train: column 'y' is null in row 1"),
    ("single", pa.array(["a", "a"]), {}, r"data.train: column 'y' has a single class \('a'\)"),
    ("fraction", pa.array([1.0, 2.0, 0.5]), {}, r"data.train: column 'y', row 2: 0.5 is no integer"),
    ("beyond", pa.array([2**63, 0], pa.uint64()), {}, r"column 'y', row 0: 9223372036854775808"),
    ("infinite", pa.array([1.0, float("inf")]), {}, r"column 'y', row 1: inf is no integer"),
    ("id", pa.array(range(1_001)), {}, r"column 'y', row 1000: more than 1,000 classes: is it an id"),
    ("date", pa.array([1, 2], pa.date32()), {}, r"column 'y' has type date32\[day\]: labels are strings"),
    ("nested", pa.array([[1], [2]]), {}, r"column 'y' has type list<item: int64>: labels are strings"),
    ("empty", pa.array([None, None]), {}, r"column 'y' is null in every row: set schema.label"),
    (
        "undeclared",
        pa.array(["yes", "no", "mabye"]),
        {"classes": ["no", "yes", "maybe"]},
        r"data.train: column 'y', row 2: 'mabye' is not in schema.classes: did you mean 'maybe'\?",
    ),
    ("yaml", pa.array(["no", "yes"]), {"classes": [False, True]}, r"schema.classes: false is a boolean.*quote it"),
    ("no int", pa.array([0, 1]), {"classes": ["no", "yes"]}, r"schema.classes: each must be an integer as in 'y'"),
    ("no bool", pa.array([True]), {"classes": ["no", "yes"]}, r"schema.classes: each must be true or false"),
    ("same", pa.array([0, 1]), {"classes": ["1", 1]}, r"schema.classes: at least two different values"),
    ("one", pa.array([0, 1]), {"classes": [1]}, r"schema.classes: at least two different values"),
    ("binary", pa.array([0, 1, 2]), {"task": "binary"}, r"schema.task: binary has two classes, .* has 3: set schema"),
]


@pytest.mark.parametrize(
    ("values", "options", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused_in_one_line(values: pa.Array, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        fit(values, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        (pa.array(["a", "c"]), ("a", "b"), r"^data.val: column 'y', row 11: 'c' is no class: choose from: a, b$"),
        (pa.array([None, "a"]), ("a", "b"), r"^data.val: column 'y' is null in row 10"),
        (pa.array(["0"]), (0, 1), r"^data.val: column 'y' has type string, a number is due: convert it$"),
        (pa.array([1]), (False, True), r"^data.val: column 'y' has type int64, a boolean is due"),
        (pa.array([BIG + 1]), (BIG, BIG + 2), r"row 10: '9007199254740993' is no class"),
    ],
)
def test_unknown_labels(values: pa.Array, classes: tuple[Label, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        codes(values, classes)


def test_integers_read_back_as_doubles_are_the_same_classes() -> None:
    assert codes(pa.array([2.0, 1.0]), (1, 2)) == [1, 0]


def test_multilabel() -> None:
    first, second = pa.array([0, 1, 1]), pa.array([True, False, True])
    assert fit(first, second) == ("multilabel", ("y", "y2"))
    assert fit(first, task="multilabel") == ("multilabel", ("y",))
    batch = pa.record_batch({"b": second, "a": first})
    result = flags(batch, ["a", "b"], first_row=0, where="table")
    assert result.dtype == np.float32
    assert result.tolist() == [[0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([0, 1, 2]), r"^data.train: column 'y2', row 2: 2 where 0 or 1 is due"),
        (pa.array([0, None, 1]), r"^data.train: column 'y2', row 1: null where 0 or 1 is due"),
        (pa.array([0.0, 1.0, float("nan")]), r"row 2: nan where 0 or 1 is due"),
        (pa.array(["0", "1", "1"]), r"column 'y2' has type string: a multilabel task has 0/1 columns"),
    ],
)
def test_multilabel_columns_hold_0_and_1(values: pa.Array, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(pa.array([0, 1, 1]), values)


def test_multilabel_settings_that_contradict() -> None:
    first, second = pa.array([0, 1]), pa.array([1, 0])
    with pytest.raises(UserError, match=r"schema.task: binary has one label column, schema.label has 2"):
        fit(first, second, task="binary")
    with pytest.raises(UserError, match=r"schema.classes: those of a multilabel task are its label columns"):
        fit(first, second, classes=[0, 1])
    assert fit(first, second, classes=["y", "y2"])[1] == ("y", "y2")
