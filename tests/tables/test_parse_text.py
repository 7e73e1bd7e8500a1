from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.errors import UserError
from tabstep.schema import Schema
from tabstep.tables.infer_schema import Declared, infer_schema
from tabstep.tables.parse_text import parsed, proposed_format
from tabstep.tables.source import open_source


@pytest.mark.parametrize(
    ("form", "texts", "values"),
    [
        (
            "number",
            ["$1,200.50", "12 %", "-3", "1'000", "€ 7", "+.5", " 8 ", "1e3"],
            [1200.5, 12, -3, 1000, 7, 0.5, 8, 1000],
        ),
        ("comma", ["1332,3", "1.200,50 €", "12,5 %", "-7", "1 000"], [1332.3, 1200.5, 12.5, -7, 1000]),
        ("number", ["", "n/a", "-", None, "NA", "?", " Unknown ", "#DIV/0!"], [None] * 8),
        ("%d.%m.%Y", ["31.12.2025", None], [datetime.date(2025, 12, 31), None]),
        ("%Y-%m-%d %H:%M", ["2025-12-31 23:59"], [datetime.datetime(2025, 12, 31, 23, 59)]),
    ],
)
def test_text_is_read_as_what_it_means(form: str, texts: list[str | None], values: list[object]) -> None:
    assert parsed(pa.array(texts, pa.string()), form, "x").to_pylist() == values
    assert parsed(pa.array(texts, pa.string()).dictionary_encode(), form, "x").to_pylist() == values


@pytest.mark.parametrize(("form", "text"), [("number", "about 5"), ("comma", "1,2,3"), ("%d.%m.%Y", "31/12/2025")])
def test_another_text_is_named(form: str, text: str) -> None:
    with pytest.raises(UserError, match=rf"^column 'x': '{text}' is not of the format '{form}': repair it"):
        parsed(pa.array([None, text]), form, "x")


def test_typed_columns_stay_and_unknown_formats_are_refused() -> None:
    assert parsed(pa.array([1.5]), "number", "x").to_pylist() == [1.5]
    with pytest.raises(UserError, match=r"^'numbr' is no format: choose number, comma, text, or a pattern"):
        parsed(pa.array(["1"]), "numbr", "x")


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["$1,200.50", "$3"], "number"),
        (["12 %", "3 %"], "number"),
        (["1332,3", "7"], "comma"),
        (["1,200", "3,400"], "number"),
        (["31.12.2025", "01.02.2026"], "%d.%m.%Y"),
        (["2017-09-08T23:30:28Z", "2017-12-31T00:00:00Z"], "%Y-%m-%dT%H:%M:%SZ"),
        (["2017-09-08 23:30:28.125", None], "%Y-%m-%d %H:%M:%S"),
        (["2017-09-08T23:30:28.1+02:00", "2017-09-08T23:30:28-0500"], "%Y-%m-%dT%H:%M:%S%z"),
        (["2017-09-08T23:30"], "%Y-%m-%dT%H:%M"),
        (["12/31/2025", "01/02/2026"], "%m/%d/%Y"),
        (["2025-12-31 10:00:00"], "%Y-%m-%d %H:%M:%S"),
        (["-", ""], None),
        (["0815", "4711"], None),
        (["1.2.3", "4.5.6"], None),
        (["$5", "five"], None),
        (["1.5", "n.a.", "2.5"], "number"),
    ],
)
def test_formats_are_proposed(texts: list[str], form: str | None) -> None:
    assert proposed_format(pa.array(texts)) == form


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.sampled_from(["number", "comma"]))
def test_what_is_written_is_read_back(values: list[float], form: str) -> None:
    written = [f"{value:,.2f}" for value in values]
    if form == "comma":
        written = [text.translate(str.maketrans(",.", ".,")) for text in written]
    found = proposed_format(pa.array(written))
    assert found == form
    np.testing.assert_allclose(parsed(pa.array(written), found, "x").to_numpy(), values, atol=0.0051)


def test_a_column_is_read_in_train_and_at_predict(tmp_path: Path) -> None:
    days = [f"{1 + index % 28:02d}.{1 + index % 12:02d}.2025" for index in range(80)]
    table = pa.table({"price": [f"${index},000.50" for index in range(80)], "day": days, "y": [0, 1] * 40})
    pq.write_table(table, tmp_path / "train.parquet")
    parse = {"price": "number", "day": "%d.%m.%Y"}
    source = open_source(str(tmp_path), split="train").reading(parse)
    assert source.arrow_schema.field("day").type == pa.date32()
    assert source.fingerprint() != open_source(str(tmp_path), split="train").fingerprint()
    schema, _, rows = infer_schema(source, Declared(label="y", parse=parse))
    assert schema.numeric == ("price", "day")
    assert [row.type for row in rows] == ["double", "date32[day]", "int64"]
    options = EncoderOptions(scaling="quantile", max_categories=10, min_frequency=1)
    encoder = Encoder.fit(source, schema, options=options)
    assert Encoder.from_json(encoder.to_json()) == encoder
    assert Schema.from_dict(schema.to_dict()) == schema
    (raw,), (read,) = table.to_batches(), source.batches(["price", "day"])
    for left, right in zip(encoder.transform(raw), encoder.transform(read), strict=True):
        assert np.array_equal(left, right)
    subset = source.subset(np.arange(80) < 3, "val")
    assert next(subset.batches(["price"]))["price"].to_pylist() == [0.5, 1000.5, 2000.5]


def test_what_cannot_be_read_names_the_key(tmp_path: Path) -> None:
    pq.write_table(pa.table({"price": ["$1"], "y": [0]}), tmp_path / "train.parquet")
    source = open_source(str(tmp_path), split="train")
    with pytest.raises(UserError, match=r"^schema.parse: data.train has no column 'prise': did you mean 'price'"):
        source.reading({"prise": "number"})
    with pytest.raises(UserError, match=r"^schema.parse: column 'price': 'numbers' is no format"):
        source.reading({"price": "numbers"})
