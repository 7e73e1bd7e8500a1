"""Ids come back in the type that they were given in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.serving.conftest import _rich_table, _save_model

import tabstep
from tabstep.artifact.predictor import Predictor
from tabstep.errors import UserError
from tabstep.schema import Schema

ROWS = 12
NUMERIC = ("age", "income", "joined", "waited", "flag", "seen")
IDS = {
    "string": pa.array([f"r{row}" for row in range(ROWS)]),
    "large": pa.array([f"r{row}" for row in range(ROWS)], pa.large_string()),
    "view": pa.array([f"r{row}" for row in range(ROWS)], pa.string_view()),
    "dictionary": pa.array(["a", "b", None] * (ROWS // 3)).dictionary_encode(),
    "number": pa.array(range(2**63, 2**63 + ROWS), pa.uint64()),
    "binary": pa.array([b"\xff"] * ROWS),
}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return _rich_table(ROWS)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Predictor:
    schema = Schema(id="row_id", label=("label",), numeric=NUMERIC, categorical=("city", "member"))
    return tabstep.load(_save_model(tmp_path_factory.mktemp("predictor") / "model", table, schema))


def with_ids(table: pa.Table, ids: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index("row_id"), "row_id", ids)


@pytest.mark.parametrize("name", IDS)
def test_ids_keep_their_type(name: str, predictor: Predictor, table: pa.Table, tmp_path: Path) -> None:
    rows = with_ids(table, IDS[name])
    pq.write_table(rows, tmp_path / "t.parquet")
    predictor.predict_file(tmp_path / "t.parquet", tmp_path / "p.parquet")
    for predicted in (predictor.predict(rows), pq.read_table(tmp_path / "p.parquet")):
        assert predicted.schema.field("row_id").type == IDS[name].type
        assert predicted.column("row_id").to_pylist() == IDS[name].to_pylist()


def test_a_view_of_text_is_written_as_csv(predictor: Predictor, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(with_ids(table, IDS["view"]), tmp_path / "t.parquet")
    assert predictor.predict_file(tmp_path / "t.parquet", tmp_path / "p.csv") == ROWS
    assert (tmp_path / "p.csv").read_text().splitlines()[1].startswith('"r0",')


def test_ids_that_csv_cannot_hold_are_refused(predictor: Predictor, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(with_ids(table, pa.array([[1]] * ROWS)), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"cannot be written as CSV \(Unsupported Type:list<.*\): write \.parquet"):
        predictor.predict_file(tmp_path / "t.parquet", tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()
