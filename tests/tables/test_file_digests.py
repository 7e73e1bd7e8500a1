"""What stands in a file is what counts, not what is said of it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from tabstep.encoding.encoded_table import encode_table
from tabstep.encoding.encoder import EncoderOptions
from tabstep.encoding.encoder_cache import fit_cached
from tabstep.errors import RetryError, UserError
from tabstep.schema import Schema
from tabstep.tables import file_digests
from tabstep.tables.file_digests import Contents
from tabstep.tables.source import ParquetSource, open_source


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with one file, whose first value is 1.0."""
    (tmp_path / "data").mkdir()
    table = pa.table({"x": np.arange(1.0, 101.0), "y": [0, 1] * 50})
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, tmp_path / "data" / "a.parquet", **plain)
    return tmp_path / "data"


def other_rows(path: Path) -> bytes:
    """Return the bytes of a file that is equal in size and footer, and whose first value is 1000.0."""
    found = path.read_bytes()
    old, new = (np.float64(value).tobytes() for value in (1.0, 1000.0))
    start = found.index(old)
    return found[:start] + new + found[start + 8 :]


def copied_with_times(content: bytes, target: Path) -> None:
    """Do what ``cp -p`` does onto a file that is there."""
    stat = target.stat()
    target.write_bytes(content)
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (target.stat().st_size, target.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file count as one that was written long ago."""
    monkeypatch.setattr(file_digests, "_SETTLED_NS", 0)


@pytest.mark.usefixtures("settled")
def test_another_file_under_the_same_name_size_footer_and_time_is_trained_on(data: Path, tmp_path: Path) -> None:
    schema = Schema(label=("y",), numeric=("x",), categorical=())
    options = EncoderOptions(scaling="standard", max_categories=10, min_frequency=1)
    cache = tmp_path / "cache"

    def highest() -> tuple[float, float]:
        source = open_source(str(data), split="train", memory=cache)
        encoder = fit_cached(source, schema, options=options, task=None, classes=None, seed=0, cache_dir=cache)
        return encoder.numeric[0].maximum, float(encode_table(source, encoder, cache).x_num.max())

    before = highest()
    assert before[0] == 100.0
    copied_with_times(other_rows(data / "a.parquet"), data / "a.parquet")
    after = highest()
    assert after[0] == 1000.0
    assert after[1] > before[1]
    assert len(list(cache.glob("encoder-*"))) == len(list(cache.glob("contents-*"))) == 2


@pytest.mark.usefixtures("settled")
def test_the_next_start_reads_no_bytes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_source(str(data), split="train", memory=tmp_path / "cache").fingerprint()
    monkeypatch.setattr(Contents, "_digest", lambda *_: pytest.fail("read again"))
    assert open_source(str(data), split="train", memory=tmp_path / "cache").fingerprint() == first
    (data / "a.parquet").chmod(0o400)  # the time of status change is another one: the file has to be read
    with pytest.raises(pytest.fail.Exception):
        open_source(str(data), split="train", memory=tmp_path / "cache").fingerprint()


def test_a_file_just_written_is_not_remembered(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), split="train", memory=tmp_path / "cache")
    source.fingerprint()
    assert not (tmp_path / "cache").exists()


def test_a_copy_elsewhere_has_the_same_fingerprint(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    one, two = (open_source(str(tmp_path / name), split="train").fingerprint() for name in ("data", "copy"))
    assert one == two
    shutil.copyfile(data / "a.parquet", data / "b.parquet")
    assert open_source(str(data), split="train").fingerprint() != one


def test_parts_of_a_split_share_one_reading(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(data), split="train")
    source.fingerprint()
    monkeypatch.setattr(Contents, "_digest", lambda *_: pytest.fail("read again"))
    half = source.subset(np.arange(100) < 50, "val")
    assert half.fingerprint() != source.fingerprint()


def test_a_file_that_changes_before_its_digest_is_refused(data: Path) -> None:
    source = open_source(str(data), split="val")
    (data / "a.parquet").write_bytes(other_rows(data / "a.parquet") + b" ")
    with pytest.raises(UserError, match=r"^data.val: a.parquet: changed while it was read: run again when it is"):
        source.fingerprint()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_storage_that_fails_may_be_tried_again(data: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(str(data), split="train")

    class Failing(fs.LocalFileSystem):
        def open_input_stream(self, *_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        open_input_file = open_input_stream

    def fail(source: ParquetSource) -> None:
        object.__setattr__(source._location, "filesystem", Failing())

    fail(source)
    for read in (source.fingerprint, lambda: list(source.batches(["x"]))):
        with pytest.raises(RetryError, match=rf"^data.train: a.parquet: cannot be read: .*{os.strerror(number)}"):
            read()
    monkeypatch.setattr("tabstep.tables.locations.fs.LocalFileSystem", Failing)
    with pytest.raises(RetryError, match=r"^data.train: a.parquet: cannot be read: .*: run again when the storage is"):
        open_source(str(data), split="train")
