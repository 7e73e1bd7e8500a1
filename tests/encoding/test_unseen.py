from __future__ import annotations

import pyarrow as pa
import pytest

from tabstep.encoding.categorical import CategoricalColumn
from tabstep.encoding.unseen import unseen_columns


def column(*, rare: tuple[str, ...] = (), open_ended: bool = False) -> CategoricalColumn:
    return CategoricalColumn(name="fiber", kind="text", values=("yes", "no"), rare=rare, open_ended=open_ended)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["True", None, "False"], True),
        (["True", "yes"], False),  # a new value beside known ones is what a category may have
        ([None, None], False),
        ([], False),
    ],
)
def test_a_column_that_is_written_otherwise_is_named(values: list[str | None], said: bool) -> None:
    batch = pa.record_batch({"fiber": pa.array(values, pa.string())})
    line = (
        f"column 'fiber': none of its values in the first {len(values)} rows was seen in train, such as 'True', "
        "where train has 'yes', 'no': is it written otherwise?"
    )
    assert [*unseen_columns([column()], batch)] == ([line] if said else [])


def test_what_is_rare_was_seen_and_new_values_of_an_open_column_are_nothing_special() -> None:
    batch = pa.record_batch({"fiber": ["perhaps", "perhaps"]})
    assert not [*unseen_columns([column(rare=("perhaps",)), column(open_ended=True)], batch)]
