from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.tables import describe as module
from tabstep.tables.describe import describe, written_formats
from tabstep.tables.source import open_source


def test_shares_counts_and_examples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    city = rng.choice(["Bonn", "Ulm", "a name that is much too long"], 100)
    table = pa.table(
        {
            "city": pa.array(city, mask=np.arange(100) % 4 == 0),
            "id": [f"u{index}" for index in range(100)],
            "n": np.arange(100) % 7,
            "none": pa.nulls(100, pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=9)
    facts = describe(open_source(str(tmp_path), split="a"), table.column_names)
    assert (facts["city"].missing, facts["city"].distinct, facts["city"].unique) == (0.25, 3, False)
    assert "a name that is muc…" in facts["city"].examples
    assert (facts["id"].distinct, facts["id"].unique, facts["id"].examples) == (100, True, ("u0", "u1", "u2"))
    assert (facts["n"].distinct, facts["n"].form, facts["n"].examples) == (7, None, ("0", "1", "2"))
    assert (facts["none"].missing, facts["none"].distinct, facts["none"].unique) == (1.0, 0, False)


def test_many_values_are_not_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"id": [f"u{index}" for index in range(5_000)]}), tmp_path / "a.parquet")
    monkeypatch.setattr(module, "_DISTINCT", (10, 10))
    facts = describe(open_source(str(tmp_path), split="a"), ["id"])["id"]
    assert (facts.distinct, facts.more, facts.unique) == (10, True, True)


def test_formats_of_the_first_rows(tmp_path: Path) -> None:
    table = pa.table(
        {
            "price": pa.array(["$1,200.50", "12 %"]).dictionary_encode(),
            "day": ["31.12.2025", "13.01.2026"],
            "code": ["0815", "4711"],
            "number": [1.5, 2.5],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_source(str(tmp_path), split="a")
    found = written_formats(source, table.column_names)
    assert {name: written.form for name, written in found.items()} == {"price": "number", "day": "%d.%m.%Y"}
    for name, written in found.items():
        texts = [text for text in table[name].to_pylist() if text is not None]
        assert (written.texts, written.distinct) == (len(texts), len({*texts}))
    assert written_formats(source, []) == {}


def test_words_among_many_numbers(tmp_path: Path) -> None:
    numbers = [str(index / 4) for index in range(40)]
    table = pa.table(
        {
            "income": [*numbers, "keine Angabe", "n.a.", None],
            "known": [*numbers, "n.a.", "?", "1"],
            "mixed": [*numbers, "a", "b", "c"],
            "few": ["1.5", "none of it"] * 21 + ["2"],
            "code": [f"00{index}" for index in range(42)] + ["more"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = written_formats(open_source(str(tmp_path), split="a"), table.column_names)
    assert {name: (each.form, each.words) for name, each in found.items()} == {
        "income": ("number", ("keine Angabe",)),
        "known": ("number", ()),
    }
