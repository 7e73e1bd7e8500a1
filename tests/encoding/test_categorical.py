from __future__ import annotations

import json

import pyarrow as pa
import pytest

from tabstep.encoding.categorical import MISSING, RARE, UNSEEN, CategoricalColumn, CategoricalFit
from tabstep.errors import UserError


def fit(values: pa.Array, *, max_categories: int = 100, min_frequency: int = 1, batch: int = 3) -> CategoricalColumn:
    fitted = CategoricalFit(["c"], max_categories=max_categories, min_frequency=min_frequency)
    for part in pa.table({"c": values}).to_batches(max_chunksize=batch):
        fitted.add(part)
    return fitted.finish()[0]


def test_codes_by_descending_frequency_with_ties_by_text() -> None:
    column = fit(pa.array(["b", "a", "c", "c", None, "ä", ""]))
    assert column.values == ("c", "", "a", "b", "ä")
    assert column.codes(pa.array(["c", "", "a", "b", "ä", None, "new"])).tolist() == [3, 4, 5, 6, 7, MISSING, UNSEEN]
    assert column.cardinality == 8


def test_rare_is_told_from_unseen() -> None:
    column = fit(pa.array(["a"] * 5 + ["b"] * 2 + ["c"] * 2 + ["d"]), max_categories=2, min_frequency=2)
    assert (column.values, column.rare, column.open_ended) == (("a", "b"), ("c", "d"), False)
    assert column.codes(pa.array(["a", "b", "c", "d", "e"])).tolist() == [3, 4, RARE, RARE, UNSEEN]


def test_too_many_values_to_remember_makes_the_column_open_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabstep.encoding.categorical._REMEMBERED", 5)
    column = fit(pa.array(["a", "a", *map(str, range(6))]), max_categories=1)
    assert (column.values, column.rare, column.open_ended) == (("a",), (), True)
    assert column.codes(pa.array(["a", "1", "never", None])).tolist() == [3, RARE, RARE, MISSING]


def test_the_codes_of_the_file_do_not_matter() -> None:
    first = pa.DictionaryArray.from_arrays([0, 1, 0, None], ["x", "y"])
    second = pa.DictionaryArray.from_arrays([0, 1, 0], ["y", "z"])
    fitted = CategoricalFit(["c"], max_categories=9, min_frequency=1)
    for part in (first, second):
        fitted.add(pa.record_batch({"c": part}))
    assert fitted.finish()[0].values == ("y", "x", "z")


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        (pa.array([3, 3, None], pa.int8()), "number", ("3",)),
        (pa.array([3.0, 2.5, 3.0, float("nan")]), "number", ("3", "2.5")),
        (pa.array([True, False, True]), "boolean", ("true", "false")),
        (pa.array([0, 1, 0], pa.date32()), "date", ("1970-01-01", "1970-01-02")),
        (pa.array([None, None], pa.null()), "nothing", ()),
        (pa.array([None, None], pa.string()), "text", ()),
        (pa.array(["b"], pa.large_string()), "text", ("b",)),
    ],
)
def test_kinds_of_values(values: pa.Array, kind: str, texts: tuple[str, ...]) -> None:
    column = fit(values)
    assert (column.kind, column.values) == (kind, texts)
    assert CategoricalColumn.from_dict(json.loads(json.dumps(column.to_dict()))) == column


def test_text_that_is_not_utf8_is_refused() -> None:
    broken = pa.array([b"ok", b"\xff\xfe"]).view(pa.string())
    with pytest.raises(UserError, match=r"column 'c' has text that is not UTF-8"):
        fit(broken)


def test_very_many_columns_share_one_budget() -> None:
    names = [f"c{index}" for index in range(2_000)]
    fitted = CategoricalFit(names, max_categories=10_000, min_frequency=1)
    values = pa.array([f"v{index}" for index in range(2_100)])
    fitted.add(pa.record_batch(dict.fromkeys(names, values)))
    columns = fitted.finish()
    assert all(column.open_ended for column in columns)
    assert max(column.cardinality for column in columns) <= 2_003


@pytest.mark.parametrize(
    ("values", "coded"),
    [
        (["a", "a", "b", "b", "b", "c", "d"], {"a", "b", "c", "d"}),  # five of seven rows share their value
        (["a", "a", "b", "c", "d"], {"a"}),  # two of five do
        (["a", "b", "c"], set()),
        (["a", "a", None, None, None, "b"], {"a", "b"}),  # missing cells are no values
    ],
)
def test_values_that_stand_once_have_no_code_where_most_rows_have_one(values: list[str], coded: set[str]) -> None:
    fitted = CategoricalFit(["c"], max_categories=9)
    fitted.add(pa.record_batch({"c": pa.array(values)}))
    (column,) = fitted.finish()
    assert {*column.values} == coded
    assert {*column.values, *column.rare} == {*values} - {None}
