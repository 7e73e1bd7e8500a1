from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.encoding.encoded_table import encode_table, row_bytes
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.encoding.encoder_cache import fit_cached
from tabstep.errors import RetryError, UserError
from tabstep.schema import Schema
from tabstep.tables.source import ParquetSource, open_source

OPTIONS = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=2)
SCHEMA = Schema(id="row_id", label=("label",), numeric=("age", "income"), categorical=("city", "member"))


@pytest.fixture
def train(tiny_data: Path) -> ParquetSource:
    return open_source(str(tiny_data / "train"), split="train")


def fitted(train: ParquetSource, cache: Path, **changes: Any) -> Encoder:
    options: dict[str, Any] = {"options": OPTIONS, "task": None, "classes": None, "seed": 0, **changes}
    return fit_cached(train, SCHEMA, cache_dir=cache, **options)


def test_arrays_and_rows_are_those_of_the_source(train: ParquetSource, tmp_path: Path, tiny_table: pa.Table) -> None:
    encoder = fitted(train, tmp_path)
    table = encode_table(train, encoder, tmp_path)
    (batch,) = tiny_table.to_batches()
    x_num, x_cat = encoder.transform(batch)
    assert (table.split, table.num_rows) == ("train", 200)
    assert np.array_equal(table.x_num, x_num)
    assert table.x_num.dtype == np.float32
    assert np.array_equal(table.x_cat, x_cat)
    assert table.x_cat.dtype == np.int32
    assert np.array_equal(table.y, encoder.encode_labels(batch))
    assert table.y.dtype == np.int64
    assert table.rows().equals(tiny_table.select(["row_id", "label"]))


def test_a_table_that_stays_on_disk_gives_the_same_rows(
    train: ParquetSource, tmp_path: Path, tiny_table: pa.Table
) -> None:
    encoder = fitted(train, tmp_path)
    held = encode_table(train, encoder, tmp_path)
    stored = encode_table(train, encoder, tmp_path, in_memory=False)
    assert (held.in_memory, stored.in_memory) == (True, False)
    assert not stored.x_num.flags.writeable, "what can be written to may not be larger than all of memory"
    places = np.arange(0, 200, 7)
    for table in (held, stored, stored.head(150)):
        for found, expected in (
            (table.part(40, 1_000), table.arrays.map(lambda array: array[40:])),
            (table.take(places[places < table.num_rows]), table.arrays.map(lambda array: array[::7])),
            (next(table.parts(1_000)), table.arrays),
        ):
            assert all(map(np.array_equal, found.present, expected.present))
        assert sum(len(part.y) for part in table.parts(33)) == table.num_rows
    for size in (1, 33, 200, 500):
        parts = list(held.row_parts(size))
        assert [part.num_rows for part in parts] == [min(size, 200 - start) for start in range(0, 200, size)]
        assert pa.concat_tables(parts).equals(tiny_table.select(["row_id", "label"]))
    assert sum(part.num_rows for part in held.head(70).row_parts(33)) == 70


@pytest.mark.parametrize("weight", [None, "income"])
def test_the_bytes_of_a_row_are_known_before_one_is_encoded(
    train: ParquetSource, tmp_path: Path, weight: str | None
) -> None:
    schema = replace(SCHEMA, numeric=("age",), weight=weight)
    encoder = Encoder.fit(train, schema, options=OPTIONS)
    table = encode_table(train, encoder, tmp_path)
    assert row_bytes(encoder) * table.num_rows == sum(array.nbytes for array in table.arrays.present)


def test_the_second_start_opens_what_the_first_has_written(
    train: ParquetSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_table(train, fitted(train, tmp_path), tmp_path)
    monkeypatch.setattr(ParquetSource, "batches", lambda *_: pytest.fail("read again"))
    start = time.perf_counter()
    second = encode_table(train, fitted(train, tmp_path), tmp_path)
    assert time.perf_counter() - start < 0.5
    assert second.fingerprint == first.fingerprint
    assert np.array_equal(second.x_num, first.x_num)


def test_arrays_are_private_and_writable_so_that_torch_takes_them(train: ParquetSource, tmp_path: Path) -> None:
    encoder = fitted(train, tmp_path)
    table = encode_table(train, encoder, tmp_path)
    assert table.x_num.flags.writeable
    table.x_num[:] = -1
    assert not (encode_table(train, encoder, tmp_path).x_num == -1).any()


@pytest.mark.parametrize("changes", [{"classes": ["yes", "no"]}, {"task": "multiclass"}, {"seed": 1}])
def test_other_settings_are_another_entry(train: ParquetSource, tmp_path: Path, changes: dict[str, Any]) -> None:
    encoder = fitted(train, tmp_path)
    other = fitted(train, tmp_path, **changes)
    assert len(list(tmp_path.glob("encoder-*"))) == 2
    if "seed" not in changes:  # fewer rows than the sample takes: the seed has nothing to choose
        assert encode_table(train, encoder, tmp_path).fingerprint != encode_table(train, other, tmp_path).fingerprint


def test_another_file_is_another_entry(train: ParquetSource, tmp_path: Path, tiny_data: Path) -> None:
    encoder = fitted(train, tmp_path)
    val = open_source(str(tiny_data / "val"), split="val")
    assert encode_table(val, encoder, tmp_path).num_rows == 60
    mask = np.arange(200) % 2 == 0
    half = encode_table(train.subset(mask, "val"), encoder, tmp_path)
    assert np.array_equal(half.x_num, encode_table(train, encoder, tmp_path).x_num[mask])


@pytest.mark.parametrize("name", ["x_num.bin", "x_cat.bin", "y.bin", "rows.arrow", "meta.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_damaged_entry_is_built_again(name: str, damage: str, train: ParquetSource, tmp_path: Path) -> None:
    encoder = fitted(train, tmp_path)
    first = encode_table(train, encoder, tmp_path)
    expected = first.x_num.copy(), first.x_cat.copy(), first.y.copy(), first.rows().to_pydict()
    path = first.rows_file.with_name(name)
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    second = encode_table(train, encoder, tmp_path)
    found = second.x_num, second.x_cat, second.y, second.rows().to_pydict()
    assert all(np.array_equal(left, right) for left, right in zip(expected[:3], found[:3], strict=True))
    assert found[3] == expected[3]


def write(tmp_path: Path, table: pa.Table, **options: Any) -> ParquetSource:
    pq.write_table(table, tmp_path / "data.parquet", **options)
    return open_source(str(tmp_path / "data.parquet"), split="test")


@pytest.mark.parametrize("dtype", [pa.int64(), pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.decimal128(20)])
def test_ids_keep_their_type(dtype: pa.DataType, tmp_path: Path) -> None:
    values = pa.array([2**53 + 1, 7, 8, 9, 10, 11])
    ids = values.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(dtype) else values.cast(dtype)
    table = pa.table({"id": ids, "x": [1, 2, 3, 4, 5, 6], "y": [True, False] * 3})
    source = write(tmp_path, table, row_group_size=2)  # another dictionary in each row group
    schema = Schema(id="id", label=("y",), numeric=("x",), categorical=())
    encoder = Encoder.fit(source, schema, options=OPTIONS)
    rows = encode_table(source, encoder, tmp_path).rows()
    assert rows["id"].to_pylist() == ids.to_pylist()
    assert rows.schema.field("id").type == (pa.string() if pa.types.is_dictionary(dtype) else dtype)


def test_multilabel_and_no_categories_or_no_numbers(tmp_path: Path) -> None:
    source = write(tmp_path, pa.table({"x": [1.0, 2.0], "c": ["a", "b"], "a": [0, 1], "b": [1, 1]}))
    for numeric, categorical in ((("x",), ()), ((), ("c",))):
        schema = Schema(label=("a", "b"), numeric=numeric, categorical=categorical)
        encoder = Encoder.fit(source, schema, options=OPTIONS)
        for _ in range(2):
            table = encode_table(source, encoder, tmp_path / "cache")
            assert (table.x_num.shape, table.x_cat.shape) == ((2, len(numeric)), (2, len(categorical)))
            assert table.y.dtype == np.float32
            assert table.y.tolist() == [[0, 1], [1, 1]]


def test_a_bad_label_names_its_row_and_leaves_nothing(
    train: ParquetSource, tmp_path: Path, tiny_table: pa.Table
) -> None:
    encoder = fitted(train, tmp_path / "cache")
    labels = tiny_table["label"].to_pylist()
    labels[150] = "nay"
    source = write(tmp_path, tiny_table.set_column(6, "label", pa.array(labels)))
    with pytest.raises(UserError, match=r"^data.test: column 'label', row 150: 'nay' is no class"):
        encode_table(source, encoder, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob(".*building"))


PROGRAM = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from tabstep.encoding.encoder import EncoderOptions
    from tabstep.schema import Schema
    from tabstep.tables.source import open_source
    from tabstep.encoding.encoded_table import encode_table
    from tabstep.encoding.encoder_cache import fit_cached
    import tabstep.encoding.encoded_table
    data, cache, crash = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
    schema = Schema(id="row_id", label=("label",), numeric=("age", "income"), categorical=("city", "member"))
    options = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=2)
    source = open_source(data, split="train")
    encoder = fit_cached(source, schema, options=options, task=None, classes=None, seed=0, cache_dir=cache)
    if crash == "transform":
        tabstep.encoding.encoder.Encoder.transform = kill
    elif crash == "meta":
        tabstep.encoding.encoded_table.write_sealed = kill
    elif crash == "sync":
        os.fsync = kill
    elif crash == "rename":
        Path.rename = kill
    print(encode_table(source, encoder, cache).x_num.sum())
""")


def run(tiny_data: Path, cache: Path, crash: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(tiny_data / "train"), str(cache), crash]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_at_any_point_and_run_again(train: ParquetSource, tiny_data: Path, tmp_path: Path) -> None:
    encoder = fitted(train, tmp_path)
    for crash in ("transform", "meta", "sync", "rename"):
        process = run(tiny_data, tmp_path, crash)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert {path.name.split("-")[0] for path in tmp_path.iterdir() if path.name[0] != "."} == {"encoder"}
    assert encode_table(train, encoder, tmp_path).num_rows == 200
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".building", ".damaged")]


def test_two_processes_at_once(train: ParquetSource, tiny_data: Path, tmp_path: Path) -> None:
    processes = [run(tiny_data, tmp_path, "none") for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]


def test_a_full_disk_is_said_and_leaves_nothing(train: ParquetSource, tmp_path: Path) -> None:
    encoder = fitted(train, tmp_path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(RetryError, match=r"^paths.cache_dir: cannot write .*: free some space"):
            encode_table(train, encoder, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not list(tmp_path.glob(".*building"))
    assert encode_table(train, encoder, tmp_path).num_rows == 200


def test_a_large_entry_is_verified_to_its_end(tmp_path: Path) -> None:
    columns = {f"x{index}": np.arange(400_000, dtype=np.float32) + index for index in range(15)}
    pq.write_table(pa.table({**columns, "label": np.arange(400_000) % 2}), tmp_path / "large.parquet")
    source = open_source(str(tmp_path / "large.parquet"), split="train")
    schema = Schema(label=("label",), numeric=tuple(columns), categorical=())
    options = EncoderOptions(scaling="standard", max_categories=10, min_frequency=1)
    encoder = Encoder.fit(source, schema, options=options)
    first = encode_table(source, encoder, tmp_path)
    expected, path = first.x_num.copy(), first.rows_file.with_name("x_num.bin")
    assert path.stat().st_size == 24_000_000
    with open(path, "r+b") as file:
        file.seek(17_000_000)
        file.write(bytes(7_000_000))
    assert not np.array_equal(first.x_num, expected), "the mapped file has changed"
    assert np.array_equal(encode_table(source, encoder, tmp_path).x_num, expected)
