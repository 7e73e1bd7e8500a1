"""Tables spread over machines: two machines are two starts of torchrun with directories of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from tests.launch.jobs import settings_of

from tabstep.config.settings import DataSettings
from tabstep.errors import UserError
from tabstep.run.gather_files import ShardFile, gather_shards, merged
from tabstep.system.ranks import Ranks

TRAIN = Path(__file__).parents[2] / "train.py"
FIXED = (
    "schema.id=row_id", "schema.label=label", "data.batch_size=8", "data.checks=off", "model.width=8", "model.depth=1",
    "trainer=cpu", "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_epochs=2", "trainer.log_interval=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def parts(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The train split as four files: ``whole`` holds all of them, ``0`` and ``1`` are what two machines have."""
    base = tmp_path_factory.mktemp("parts")
    table = pq.read_table(next((tiny_data / "train").glob("*.parquet")))
    size = -(-table.num_rows // 4)
    for number in range(4):
        for place in ("whole", str(number % 2)):
            file = base / place / "train" / f"part={number}" / "rows.parquet"
            file.parent.mkdir(parents=True)
            pq.write_table(table.slice(number * size, size), file)
    for place in ("whole", "0", "1"):
        for split in ("val", "test"):
            shutil.copytree(tiny_data / split, base / place / split)
    return base


def start(data: Sequence[Path], directory: Path, *overrides: str) -> list[subprocess.Popen[str]]:
    """Start a run on as many machines as there are data directories."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(data)}", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    return [
        subprocess.Popen(
            [
                *command, f"--node-rank={node}", str(TRAIN), *FIXED, f"data.path={path}",
                f"paths.output_dir={directory}", f"paths.cache_dir={directory / f'cache-{node}'}", *overrides,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for node, path in enumerate(data)
    ]  # fmt: skip


def run(data: Sequence[Path], directory: Path, *overrides: str, expected: int = 0) -> list[str]:
    processes = start(data, directory, *overrides)
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode != 0 for process in processes] == [expected != 0] * len(data), printed
    return printed


@pytest.mark.slow
def test_a_spread_table_trains_as_the_whole_one_does(parts: Path, tmp_path: Path) -> None:
    run([parts / "whole"] * 2, tmp_path / "whole")
    first, second = run([parts / "0", parts / "1"], tmp_path / "spread", "data.sharded=true")
    assert "data.sharded: 4 files of 2 machines are passed on" in first
    assert "passed on" not in second, "one machine says it"
    whole, spread = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "spread"))
    assert whole.keys() == spread.keys()
    assert all((whole[name] == spread[name]).all() for name in whole)
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "spread")]
    assert {**reports[0], "seconds": 0} == {**reports[1], "seconds": 0}
    for node in (0, 1):
        (gathered_files,) = (tmp_path / "spread" / f"cache-{node}").glob("shards-*")
        for number in range(4):
            name = f"part={number}/rows.parquet"
            assert (gathered_files / name).read_bytes() == (parts / "whole" / "train" / name).read_bytes()
            assert (gathered_files / name).is_symlink() == (number % 2 == node), "its own files are not copied"
    again, _ = run([parts / "0", parts / "1"], tmp_path / "spread", "data.sharded=true", "trainer.max_epochs=3")
    assert "passed on" not in again
    assert "resume: going on from" in again


@pytest.mark.slow
def test_machines_with_the_same_files_are_refused(parts: Path, tmp_path: Path) -> None:
    printed = run([parts / "whole"] * 2, tmp_path, "data.sharded=true", expected=2)
    line = "data.sharded: machines 0 and 1 both have part=0/rows.parquet: where every machine has all files, set"
    assert any(line in text for text in printed)


def shard(*names: str) -> tuple[ShardFile, ...]:
    return tuple(ShardFile(name=name, size=1, digest="") for name in names)


def test_files_of_all_machines_in_the_order_of_one_directory() -> None:
    found = merged([shard("b", "d"), shard(), shard("a", "c/x")])
    assert [(node, file.name) for node, file in found] == [(2, "a"), (0, "b"), (2, "c/x"), (0, "d")]


@pytest.mark.parametrize(
    ("shards", "line"),
    [
        ([shard("a"), shard("b"), shard("a")], "machines 0 and 2 both have a: "),
        ([shard(), shard()], "none of the 2 machines has a parquet file of data.train"),
    ],
)
def test_mistakes(shards: list[tuple[ShardFile, ...]], line: str) -> None:
    with pytest.raises(UserError, match=line):
        merged(shards)


@pytest.fixture
def data(tiny_data: Path) -> DataSettings:
    return replace(settings_of().data, path=str(tiny_data), sharded=True)


def test_one_machine_has_all(data: DataSettings, tmp_path: Path) -> None:
    notes: list[str] = []
    assert gather_shards(data, Ranks(world_size=2, local_world_size=2), tmp_path, notes.append) == data
    assert gather_shards(replace(data, path=None), Ranks(world_size=2), tmp_path, notes.append).path is None
    assert gather_shards(replace(data, sharded=False), Ranks(world_size=2), tmp_path, notes.append).sharded is False
    assert notes == [
        "data.sharded: has no effect on one machine",
        "data.sharded: has no effect on the built-in table",
    ]


def test_what_every_machine_can_read_is_refused(data: DataSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"every machine can read s3://b/train itself: set data.sharded=false"):
        gather_shards(replace(data, path=None, train="s3://b/train"), Ranks(world_size=2), tmp_path, print)
