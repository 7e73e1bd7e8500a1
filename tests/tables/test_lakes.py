from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.errors import UserError
from tabstep.tables.lakes import LakeTable, lake_of
from tabstep.tables.readers import as_parquet, open_rows

ROWS = pa.table({"age": [31, 42, 53], "job": ["nurse", None, "cook"]})


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Five rows of six that were written in two times: one was deleted."""
    deltalake = pytest.importorskip("deltalake")
    deltalake.write_deltalake(tmp_path / "delta", ROWS)
    deltalake.write_deltalake(tmp_path / "delta", ROWS, mode="append")
    deltalake.DeltaTable(tmp_path / "delta").delete("age = 53")
    return tmp_path / "delta"


@pytest.fixture
def iceberg(tmp_path: Path) -> Path:
    pytest.importorskip("pyiceberg")
    sql = pytest.importorskip("pyiceberg.catalog.sql")
    catalog = sql.SqlCatalog("test", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("n")
    table = catalog.create_table("n.customers", schema=ROWS.schema)
    table.append(ROWS)
    table.append(ROWS.slice(0, 1))
    catalog.engine.dispose()
    return tmp_path / "warehouse" / "n" / "customers"


def test_a_delta_table_has_no_deleted_rows(delta: Path, tmp_path: Path) -> None:
    assert lake_of(str(delta), where="x") == "delta"
    table = open_rows(str(delta), where="data.train")
    assert isinstance(table, LakeTable)
    assert table.num_rows == 4
    read = pa.Table.from_batches(table.batches(["job", "age"])).to_pydict()
    assert sorted(read["age"]) == [31, 31, 42, 42]
    path = as_parquet(str(delta), where="data.train", cache_dir=tmp_path / "cache")
    assert pq.read_table(path).num_rows == 4
    assert as_parquet(str(delta), where="data.train", cache_dir=tmp_path / "cache") == path


def test_a_new_version_is_converted_anew(delta: Path, tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    before = as_parquet(str(delta), where="data.train", cache_dir=tmp_path / "cache")
    deltalake.write_deltalake(delta, ROWS, mode="append")
    after = as_parquet(str(delta), where="data.train", cache_dir=tmp_path / "cache")
    assert after != before
    assert pq.read_table(after).num_rows == 7


def test_an_iceberg_table_by_its_directory_and_by_its_metadata(iceberg: Path, tmp_path: Path) -> None:
    newest = max((iceberg / "metadata").glob("*.metadata.json"))
    for location in (iceberg, newest):
        assert lake_of(str(location), where="x") == "iceberg"
        table = open_rows(str(location), where="data.train")
        assert table.num_rows == 4
        read = pa.Table.from_batches(table.batches(["job", "age"]))
        assert read.column_names == ["job", "age"]
        assert sorted(read.column("age").to_pylist()) == [31, 31, 42, 53]
    path = as_parquet(str(iceberg), where="data.train", cache_dir=tmp_path / "cache")
    assert pq.read_table(path).schema.field("age").type == pa.int64()


def test_what_cannot_be_read_ends_in_one_line(tmp_path: Path, delta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lake_of(str(tmp_path), where="x") is None
    with pytest.raises(UserError, match=r"x: column 'jobb' is missing: did you mean 'job'\?"):
        list(LakeTable(str(delta), "delta", where="x").batches(["jobb"]))
    for log in (delta / "_delta_log").iterdir():
        log.write_text("broken")
    with pytest.raises(UserError, match="x: cannot be read as Delta table: ") as caught:
        LakeTable(str(delta), "delta", where="x")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    with pytest.raises(UserError, match=r"a Delta table needs deltalake: pip install 'tabstep\[delta\]'"):
        LakeTable(str(delta), "delta", where="x")
