"""Virtual shards, from the files to a trained model: ranks as threads for what they prepare, as processes for a run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from tests.run.rank_threads import RankThreads

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.errors import ProblemsError, UserError
from tabstep.run import prepare_shards as module
from tabstep.run.prepare import prepare
from tabstep.run.prepare_shards import prepare_shards
from tabstep.run.prepared import Prepared
from tabstep.run.run import run
from tabstep.run.text_formats import TextFormats
from tabstep.system.ranks import Ranks
from tabstep.tables.file_digests import Contents
from tabstep.tables.source import ParquetSource
from tabstep.training.shard_batches import ShardOrder

TRAIN = Path(__file__).parents[2] / "train.py"
SHARDS = 4
FIXED = (
    "schema.id=row_id", "schema.label=label", "schema.weight=w", "schema.drop=[sick,late]", "data.batch_size=64",
    "model.width=8", "model.depth=1",
    "model.dropout=0", "model.linear=false", "loss.class_weights=balanced", "trainer=cpu", "trainer.max_epochs=2",
    "trainer.log_interval=0", "callbacks.checkpoint.every_n_steps=1", "report.page=false", "callbacks.progress=lines",
)  # fmt: skip


def make(rows: int, first: int, seed: int) -> pa.Table:
    """Return rows whose label hangs on pairs of categories, so that there are target statistics."""
    rng = np.random.default_rng(seed)
    x, c, d = rng.normal(size=rows), rng.integers(0, 120, rows), rng.integers(0, 12, rows)
    odds = x + 2.0 * np.sin(1.7 * c) + ((7 * c + 13 * d) % 5 - 2.0)
    return pa.table(
        {
            "row_id": np.arange(first, first + rows),
            "x": pa.array(x, mask=rng.random(rows) < 0.1),
            "spike": np.where(rng.random(rows) < 0.7, 0.0, rng.integers(1, 9, rows)),
            "t": pa.array(rng.integers(16 * 10**8, 17 * 10**8, rows), pa.timestamp("s")),
            "day": np.datetime_as_string((rng.integers(16 * 10**8, 17 * 10**8, rows)).astype("datetime64[s]"), "D"),
            "c": np.char.add("c", c.astype(str)),
            "d": np.char.add("d", d.astype(str)),
            "w": rng.random(rows) + 0.5,
            "sick": (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(int),
            "late": (x > rng.normal(size=rows)).astype(int),
            "label": np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in four files of several row groups; ``machine-<n>`` have two of them each, and all of val and test."""
    base = tmp_path_factory.mktemp("data")
    first = 0
    for split, sizes in {"train": (900, 800, 1000, 900), "val": (400,), "test": (300,)}.items():
        for number, rows in enumerate(sizes):
            file = base / "whole" / split / f"part-{number}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(make(rows, first, first), file, row_group_size=150, write_page_checksum=True)
            first += rows
            for machine in (0, 1):
                if split != "train" or number % 2 == machine:
                    copy = base / f"machine-{machine}" / split / file.name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, copy)
    return base


def settings(data: Path, directory: Path, *overrides: str) -> Settings:
    places = [f"data.path={data}", f"paths.output_dir={directory}/out", f"paths.cache_dir={directory}/cache"]
    return parse(composed([*FIXED, *places, *overrides], [config_dir()]))


def prepared_on(
    size: int, places: Sequence[Path], directory: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> list[Prepared]:
    """Prepare on ``size`` ranks, the machine of each with data and a cache of its own."""
    threads = RankThreads(size)
    monkeypatch.setattr(module, "meeting", threads.meeting)
    chosen = [settings(places[rank % len(places)], directory / f"{size}-{rank}", *overrides) for rank in range(size)]

    def work(ranks: Ranks) -> Prepared:
        own = chosen[ranks.rank]
        cache = Path(own.paths.cache_dir)
        return prepare_shards(own.data, own.schema, ranks, cache_dir=cache, show=lambda _: None)

    return threads.run(work)


def batches(ranks: Sequence[Prepared]) -> list[dict[str, Any]]:
    """Return the encoded rows of each batch by their id, as all ranks together have them."""
    made: list[dict[str, Any]] = []
    for prepared in ranks:
        assert prepared.sharded is not None
        table, rows = prepared.tables["train"], prepared.sharded.rows
        assert table.weight is not None
        ids = table.rows()["row_id"].to_pylist()
        order = ShardOrder(rows, seed=3, epoch=1, window=1000, batch_size=64)
        for batch in range(order.num_batches):
            made += [{}] if batch == len(made) else []
            for row in order.rows(batch).tolist():
                arrays = (table.x_num[row], table.x_cat[row], table.y[row], table.weight[row])
                made[batch][ids[row]] = b"".join(np.asarray(array).tobytes() for array in arrays)
    return made


def test_any_number_of_ranks_prepares_the_same_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data / "whole"
    found = {size: prepared_on(size, [whole], tmp_path, monkeypatch, f"data.shards={SHARDS}") for size in (1, 2, 3, 4)}
    alone = found[1][0]
    assert alone.encoder.statistics, "the test is of these too"
    assert alone.encoder.spikes
    expected = batches(found[1])
    assert sum(map(len, expected)) == 3600
    for size, ranks in found.items():
        assert {prepared.encoder.to_json() for prepared in ranks} == {alone.encoder.to_json()}
        assert {prepared.train_fingerprint for prepared in ranks} == {alone.train_fingerprint}
        assert [prepared.findings for prepared in ranks] == [alone.findings] * size
        assert sum(prepared.tables["train"].num_rows for prepared in ranks) == 3600
        assert all(prepared.train_rows == 3600 for prepared in ranks)
        assert batches(ranks) == expected, "every row in the same batch with the same bytes"
        for prepared in ranks:
            assert prepared.sharded is not None
            labels = np.bincount(alone.tables["train"].y)
            assert prepared.sharded.label_counts.tolist() == labels.tolist()


@pytest.mark.parametrize(
    "overrides",
    [
        ["schema.label=[sick,late]", "schema.drop=[label]"],
        ["data.checks=off", "data.encoder.scaling=standard"],
        ["data.encoder.statistics=false", "loss.class_weights=null"],
    ],
)
def test_other_tasks_and_options_are_the_same_on_three_ranks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    alone, several = (
        prepared_on(size, [data / "whole"], tmp_path, monkeypatch, f"data.shards={SHARDS}", *overrides)
        for size in (1, 3)
    )
    assert {prepared.encoder.to_json() for prepared in several} == {alone[0].encoder.to_json()}
    assert batches(several) == batches(alone)
    assert alone[0].sharded is not None
    y = alone[0].tables["train"].y
    expected = y.sum(axis=0) if y.ndim == 2 else np.bincount(y)
    assert all(p.sharded.label_counts.tolist() == expected.tolist() for p in several if p.sharded)


def test_shards_give_the_encoder_and_the_rows_of_a_run_without_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the last bits of means and of what they scale."""
    chosen = settings(data / "whole", tmp_path)
    cache = Path(chosen.paths.cache_dir)
    plain = prepare(chosen.data, chosen.schema, seed=0, cache_dir=cache, show=lambda _: None)
    (alone,) = prepared_on(1, [data / "whole"], tmp_path, monkeypatch, f"data.shards={SHARDS}")
    one, other = json.loads(plain.encoder.to_json()), json.loads(alone.encoder.to_json())
    for part in (one, other):
        for column in part["numeric"]:
            column["mean"] = pytest.approx(column["mean"], rel=1e-12)
            column["std"] = pytest.approx(column["std"], rel=1e-12)
    assert [vars(finding) for finding in alone.findings] == [vars(finding) for finding in plain.findings]
    assert {**one, "numeric": None} == {**other, "numeric": None}
    for name in ("x_num", "x_cat", "y", "weight"):
        mine, theirs = getattr(alone.tables["train"], name), getattr(plain.tables["train"], name)
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_a_rank_reads_its_own_row_groups_alone(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and the bytes for the digests; footers, which are small, are read by all."""
    read: dict[int, set[tuple[str, int]]] = {}  # by thread: each rank is one
    digested: dict[tuple[str, int], int] = {}
    rows_of, chunks_of = ParquetSource._file_batches, Contents._chunks

    def reading(self: ParquetSource, footer: Any, *arguments: Any) -> Any:
        if self.split == "train":
            groups = range(footer.first_group, footer.first_group + len(footer.row_groups))
            read.setdefault(get_ident(), set()).update((footer.name, group) for group in groups)
        return rows_of(self, footer, *arguments)

    def digesting(self: Contents, path: str) -> Any:
        span = self._spans.get(path, (0, Path(path).stat().st_size))
        if "/train/" in path:
            assert (path, span[0]) not in digested, "bytes are read once"
            digested[path, span[0]] = span[1] - span[0]
        return chunks_of(self, path)

    monkeypatch.setattr(ParquetSource, "_file_batches", reading)
    monkeypatch.setattr(Contents, "_chunks", digesting)
    prepared_on(SHARDS, [data / "whole"], tmp_path, monkeypatch, f"data.shards={SHARDS}")
    owned = list(read.values())
    assert len(owned) == SHARDS
    assert sum(map(len, owned)) == len(set().union(*owned)) == 25, "each of the 25 row groups on one rank"
    assert sum(digested.values()) == sum(file.stat().st_size for file in (data / "whole" / "train").iterdir())


def test_machines_with_a_part_of_the_files_prepare_what_one_with_all_does(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared_on(1, [data / "whole"], tmp_path, monkeypatch, "data.shards=file")
    places = [data / "machine-0", data / "machine-1"]
    spread = prepared_on(2, places, tmp_path, monkeypatch, "data.shards=file", "data.sharded=true")
    assert [prepared.sharded.rows.own for prepared in spread if prepared.sharded] == [(0, 2), (1, 3)]
    assert {prepared.encoder.to_json() for prepared in spread} == {whole[0].encoder.to_json()}
    assert {prepared.train_fingerprint for prepared in spread} == {whole[0].train_fingerprint}
    assert batches(spread) == batches(whole)


def test_a_warm_cache_reads_no_row_of_train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (f"data.shards={SHARDS}", "schema.weight=null", "schema.drop=[w,sick,late]")
    before = prepared_on(2, [data / "whole"], tmp_path, monkeypatch, *arguments)
    monkeypatch.setattr(ParquetSource, "_file_batches", lambda *_: pytest.fail("it is encoded already"))
    # what the first rows say of the schema is not kept
    formats = TextFormats(certain={"day": "%Y-%m-%d"}, others={})
    monkeypatch.setattr(module, "text_formats", lambda *_: formats)
    monkeypatch.setattr(module, "inferred", lambda *_: (before[0].schema, None, []))
    again = prepared_on(2, [data / "whole"], tmp_path, monkeypatch, *arguments)
    assert [one.tables["train"].fingerprint for one in again] == [one.tables["train"].fingerprint for one in before]


def test_rows_without_a_label_are_left_out_of_each_shard(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "holes"
    shutil.copytree(data / "whole", place)
    for file in sorted((place / "train").iterdir()):
        table = pq.read_table(file)
        labels = [None if row % 10 == 0 else value for row, value in enumerate(table["label"].to_pylist())]
        at = table.schema.get_field_index("label")
        pq.write_table(table.set_column(at, "label", pa.array(labels)), file, row_group_size=150)
    chosen = ("data.shards=4", "data.drop_unlabeled=true")
    alone, several = (prepared_on(size, [place], tmp_path, monkeypatch, *chosen) for size in (1, 3))
    assert alone[0].train_rows == 3240
    assert batches(several) == batches(alone)
    with pytest.raises(UserError, match="label 'label': 360 of 3,600 are missing, first in row 0"):
        prepared_on(3, [place], tmp_path / "all", monkeypatch, "data.shards=4")
    with pytest.raises(UserError, match=r"data.train: column 'label' is null in row 0"):
        prepared_on(3, [place], tmp_path / "all", monkeypatch, "data.shards=4", "data.checks=off")


@pytest.mark.parametrize(
    ("size", "overrides", "line"),
    [
        (1, ["data.shards=40"], "data.shards: 40 shards of 25 row groups: set data.shards to at most 25"),
        (5, ["data.shards=file"], "data.shards: 5 ranks of machine 0 and 4 shards: each rank needs one"),
        (1, ["data.shards=4", "data.path=null", "data.train={whole}/train"], "data.shards: data.val is not set"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, overrides: list[str], line: str
) -> None:
    filled = [text.format(whole=data / "whole") for text in overrides]
    with pytest.raises(UserError, match=line):
        prepared_on(size, [data / "whole"], tmp_path, monkeypatch, *filled)


def test_ranks_that_see_other_files_are_told_so(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [data / "machine-0", data / "machine-1"]
    with pytest.raises(UserError, match=r"ranks 0 and 1 see other files of data.train: .* data.sharded=true"):
        prepared_on(2, places, tmp_path, monkeypatch, "data.shards=4")
    with pytest.raises(UserError, match=r"data.sharded: machines 0 and 1 both have part-0.parquet"):
        prepared_on(2, [data / "whole"], tmp_path, monkeypatch, "data.shards=file", "data.sharded=true")


def test_csv_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("x,label\n1,a\n2,b\n")
    with pytest.raises(UserError, match=r"data.shards: .*train.csv is not parquet"):
        prepared_on(1, [tmp_path], tmp_path / "run", monkeypatch, "data.shards=2")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["model.linear=true"], "model.linear: a linear model to begin as is fitted on the whole of train"),
        (["data.batch_size=8"], "data.batch_size: 8 rows hold fewer than 2 of the smallest of 4 shards"),
    ],
)
def test_what_a_run_with_shards_cannot_do_is_refused(
    data: Path, tmp_path: Path, overrides: list[str], line: str
) -> None:
    chosen = settings(data / "whole", tmp_path, "data.shards=4", *overrides)
    with pytest.raises(UserError, match=line):
        run(chosen, {})


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.path=null"], "data.shards: the built-in table is not worth a cut"),
        (["data.folds=3"], "data.folds: folds are drawn from the whole of train"),
        (["data.sharded=true"], r"data.shards: one of 4 may lie in files of two machines .data.sharded.: set "),
        (["data.path=null", "data.train=a", "data.val=b", "data.reader.name=a:b"], "data.reader: makes whole tables"),
    ],
)
def test_settings_that_need_the_whole_of_train_are_refused_before_it_is_read(
    data: Path, tmp_path: Path, overrides: list[str], line: str
) -> None:
    with pytest.raises(ProblemsError, match=line):
        settings(data / "whole", tmp_path, "data.shards=4", *overrides)


def history(output: Path) -> list[dict[str, float]]:
    with open(output / "metrics.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [{k: v for k, v in row.items() if k not in ("rows_per_s", "eta_s", "seconds")} for row in rows]


def test_limits_keep_the_first_rows_of_each_shard(data: Path, tmp_path: Path) -> None:
    chosen = settings(data / "whole", tmp_path, "data.shards=4", "trainer.limit_train_batches=3")
    run(chosen, {})
    assert [row["step"] for row in history(tmp_path / "out")] == [3.0, 6.0]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "baselines" not in report


def command(data: Path, output: Path, *overrides: str) -> list[str]:
    places = [f"data.path={data}", f"paths.output_dir={output}", f"paths.cache_dir={output}-cache"]
    return [sys.executable, str(TRAIN), *FIXED, *places, f"data.shards={SHARDS}", *overrides]


def train(data: Path, output: Path, *overrides: str) -> str:
    done = subprocess.run(command(data, output, *overrides), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def on_two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("two") / "out"
    train(data / "whole", output, "trainer.devices=2")
    return output


@pytest.mark.slow
def test_one_two_and_four_processes_train_alike(data: Path, on_two: Path, tmp_path: Path) -> None:
    train(data / "whole", tmp_path / "1")
    train(data / "whole", tmp_path / "4", "trainer.devices=4")
    expected = (tmp_path / "1" / "model" / "encoder.json").read_bytes()
    for output in (on_two, tmp_path / "4"):
        assert (output / "model" / "encoder.json").read_bytes() == expected
        for mine, theirs in zip(history(output), history(tmp_path / "1"), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4), "sums over ranks are rounded in another order"


@pytest.mark.slow
def test_a_killed_rank_goes_on_bit_for_bit_and_others_with_the_same_batches(
    data: Path, on_two: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    started = subprocess.Popen(
        command(data / "whole", output, "trainer.devices=2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not list((output / "checkpoints").glob("last-*.ckpt")):
        assert time.monotonic() < deadline
        assert started.poll() is None, "it ended before it could be stopped"
        time.sleep(0.02)
    below = psutil.Process(started.pid).children(recursive=True)
    max((each for each in below if "--standalone" not in each.cmdline()), key=lambda rank: rank.pid).send_signal(
        signal.SIGKILL
    )
    started.communicate(timeout=240)
    assert started.returncode == 75
    other = tmp_path / "other"
    shutil.copytree(output, other)
    assert "resume: going on from" in train(data / "whole", output, "trainer.devices=2")
    expected = load_file(on_two / "model" / "model.safetensors")
    found = load_file(output / "model" / "model.safetensors")
    assert all((found[name] == expected[name]).all() for name in expected)
    assert "resume: going on from" in train(data / "whole", other, "trainer.devices=4")
    assert history(other)[-1] == pytest.approx(history(on_two)[-1], abs=1e-4)


@pytest.mark.slow
def test_machines_with_a_part_of_the_files_train_as_one_with_all(data: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    torchrun += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    started = [
        subprocess.Popen(
            [
                *torchrun, f"--node-rank={node}", *command(data / f"machine-{node}", tmp_path / "spread")[1:],
                "data.shards=file", "data.sharded=true", "trainer.num_nodes=2",
                f"paths.cache_dir={tmp_path}/cache-{node}",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for node in (0, 1)
    ]  # fmt: skip
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    assert "3,600 rows of train in 4 shards on 2 ranks" in printed[0]
    assert not list(tmp_path.glob("cache-*/shards-*")), "no file was passed on"
    train(data / "whole", tmp_path / "whole", "data.shards=file")
    one, other = (tmp_path / name / "model" / "encoder.json" for name in ("spread", "whole"))
    assert one.read_bytes() == other.read_bytes()
    assert history(tmp_path / "spread")[-1] == pytest.approx(history(tmp_path / "whole")[-1], abs=1e-4)
