from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.checks import row_hash
from tabstep.checks.row_hash import hash_categories, hash_ids, hash_numbers, hash_text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.none(), max_size=40))
def test_equal_text_has_equal_hashes_and_other_text_others(values: list[str | None]) -> None:
    hashes = hash_text(pa.array(values, pa.string()))
    by_value = dict(zip(values, hashes.tolist(), strict=True))
    assert [by_value[value] for value in values] == hashes.tolist()
    assert len(set(by_value.values())) == len(by_value)
    backwards = hash_text(pa.array(["…", *values[::-1]], pa.large_string())[1:])
    assert backwards.tolist() == hashes.tolist()[::-1]


def test_a_million_texts_do_not_collide_and_pieces_hash_like_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([f"user-{number}" for number in range(200_000)])
    whole = hash_text(texts)
    assert len(np.unique(whole)) == len(texts)
    monkeypatch.setattr(row_hash, "_BYTES_AT_ONCE", 1000)
    np.testing.assert_array_equal(hash_text(texts[:5000]), whole[:5000])


def test_numbers_hash_by_value() -> None:
    hashes = hash_numbers(np.array([0.0, -0.0, np.nan, -np.nan, 1.0, np.inf]))
    assert hashes[0] == hashes[1]
    assert hashes[2] == hashes[3]
    assert len(set(hashes.tolist())) == 4


def test_categories_hash_alike_in_every_layout() -> None:
    plain = pa.array(["a", None, "b", "a"])
    cells, distinct, counts = hash_categories(plain)
    for other in (plain.cast(pa.large_string()), plain.dictionary_encode()):
        np.testing.assert_array_equal(hash_categories(other)[0], cells)
    assert dict(zip(distinct.tolist(), counts.tolist(), strict=True)) == {int(cells[0]): 2, int(cells[2]): 1}


def test_ids_hash_exactly() -> None:
    large = [2**53, 2**53 + 1, -1]
    assert len(np.unique(hash_ids(pa.array(large)))) == 3
    np.testing.assert_array_equal(hash_ids(pa.array([1, 2], pa.int32())), hash_ids(pa.array([1, 2])))
    assert len(np.unique(hash_ids(pa.array(["x", "y", None])))) == 3
