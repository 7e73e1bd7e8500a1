"""Wrong inputs, flipped bits and a storage that fails: one line and the exit code that says whose fault it is."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tabstep.system.atomic_write import file_digest
from tabstep.system.locks import exclusive
from tabstep.training.checkpoint_store import dump_state
from tests.commands import Commands, Ended, flipped, tables, with_column

Ends = Callable[[str], None]
TRAIN = ("schema.id=row_id", "trainer.max_epochs=2")
CLASSES = {0: "works", 2: "2", 75: "75"}


def check(ended: Ended, code: int, ends: Ends) -> None:
    """Whatever happens, a person reads one line and no traceback."""
    assert ended.code == code, (ended.code, ended.err[-2000:])
    assert len(ended.said) == (code != 0), ended.err
    assert "Traceback" not in ended.err
    ends(CLASSES[code])


def changed(split: str, name: str, values: Callable[[int], Any]) -> Callable[[Path], None]:
    """Return what gives a column of a split other values, by the number of its rows."""

    def change(root: Path) -> None:
        (path,) = (root / "data" / split).glob("*.parquet")
        table = pq.read_table(path)
        pq.write_table(with_column(table, name, values(table.num_rows)), path)

    return change


def without(split: str, name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (path,) = (root / "data" / split).glob("*.parquet")
        pq.write_table(pq.read_table(path).drop_columns(name), path)

    return change


def everywhere(name: str, values: Callable[[int], Any]) -> Callable[[Path], None]:
    changes = [changed(split, name, values) for split in ("train", "val", "test")]
    return lambda root: [change(root) for change in changes] and None


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write


def odd_name(root: Path) -> None:
    with open(os.fsencode(root / "data" / "train") + b"/\xff.parquet", "wb"):
        pass


def moments(unit: str, zone: str | None = None) -> Callable[[int], pa.Array]:
    return lambda rows: pa.array(np.arange(rows)).cast(pa.timestamp(unit, zone))


def days(rows: int) -> pa.Array:
    return pa.array(np.arange(rows, dtype=np.int32)).cast(pa.date32())


def large(dtype: pa.DataType, low: float, high: float) -> Callable[[int], pa.Array]:
    return lambda rows: pa.array([low, high] * (rows // 2), dtype)


INPUTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int, str]] = {
    "labels beyond 63 bits": (
        everywhere("label", large(pa.uint64(), 2**63, 2**63 + 1)),
        (),
        2,
        r"data\.train: column 'label', row \d+: 9223372036854775808 has more than 64 bits with its sign: write",
    ),
    "labels of 1e20": (everywhere("label", large(pa.float64(), 1e20, 2e20)), (), 2, r".* has more than 64 bits"),
    "labels of uint64": (everywhere("label", large(pa.uint64(), 1, 2)), (), 0, ""),
    "a date in train, timestamps in val": (
        lambda root: (changed("train", "age", days)(root), changed("val", "age", moments("s"))(root)),
        ("data.checks=off",),
        2,
        r"column 'age' has type timestamp\[ms\], a date is due as in train: convert it",
    ),
    "flags in val where numbers were": (
        changed("val", "age", lambda rows: [True] * rows),
        ("data.checks=off",),
        2,
        r"column 'age' has type bool, a number is due as in train: convert it",
    ),
    "a zone in test alone": (
        lambda root: (
            *(changed(split, "age", moments("s"))(root) for split in ("train", "val")),
            changed("test", "age", moments("s", "UTC"))(root),
        ),
        ("data.checks=off",),
        2,
        r"column 'age' has type timestamp\[ms, tz=UTC\], a timestamp is due as in train: convert it",
    ),
    "a name that is not UTF-8": (odd_name, (), 2, r"data\.train: .* holds a file whose name is not UTF-8: rename it"),
    "an experiment that is not UTF-8": (
        written("mine/experiment/bad.yaml", b"# @package _global_\nseed: \xff\n"),
        ("--config-dir=mine", "experiment=bad"),
        2,
        r".*(UTF-8|utf-8|unacceptable character|invalid start byte).*",
    ),
    "an experiment 3,000 deep": (
        written("mine/experiment/bad.yaml", b"# @package _global_\nseed: " + b"[" * 3_000 + b"]" * 3_000),
        ("--config-dir=mine", "experiment=bad"),
        2,
        r"a configuration file is nested too deeply",
    ),
    "an experiment that is no YAML": (
        written("mine/experiment/bad.yaml", b"# @package _global_\nseed: [\n"),
        ("--config-dir=mine", "experiment=bad"),
        2,
        r".*",
    ),
    "a checkpoint of something else": (
        written("foreign.ckpt", dump_state({"weights": {}})),
        ("resume=./foreign.ckpt", "paths.output_dir=other"),
        2,
        r"foreign\.ckpt: is not a checkpoint of a run of tabstep: it holds something else",
    ),
    "a checkpoint of a list": (
        written("foreign.ckpt", dump_state([1, 2])),  # type: ignore[arg-type]
        ("resume=./foreign.ckpt", "paths.output_dir=other"),
        2,
        r"foreign\.ckpt: is not a checkpoint of tabstep: it holds no state",
    ),
    "a checkpoint without progress": (
        written("foreign.ckpt", dump_state({"fingerprint": {}, "state_dict": {}, "progress": {"epoch": 1}})),
        ("resume=./foreign.ckpt", "paths.output_dir=other"),
        2,
        r"foreign\.ckpt: is not a checkpoint of a run",
    ),
    "a cut checkpoint": (
        written("foreign.ckpt", dump_state({"weights": {}})[:-1]),
        ("resume=./foreign.ckpt", "paths.output_dir=other"),
        2,
        r"foreign\.ckpt: is damaged",
    ),
    "an output directory in train": (
        lambda root: None,
        ("paths.output_dir=data/train/out",),
        2,
        r"paths\.output_dir: .*data/train/out' lies in data\.train, where it would be read as rows: name one outside",
    ),
    "a model in test": (
        lambda root: None,
        ("paths.model_dir=data/test/model",),
        2,
        r"paths\.model_dir: 'data/test/model' lies in data\.test",
    ),
    "an output directory that is a file": (written("taken", b""), ("paths.output_dir=taken",), 2, r".*taken"),
    **{
        f"no label in {split} where checks are {checks}": (
            without(split, "label"),
            (f"data.checks={checks}",),
            2,
            rf"data\.{split}: column 'label': is missing: add it, or leave the split out",
        )
        for split, checks in (("val", "off"), ("test", "warn"))
    },
    "an empty file": (written("data/train/more.parquet", b""), (), 2, r"data\.train: more\.parquet: is an empty file"),
    "a file of text": (written("data/train/more.parquet", b"a,b\n1,2\n3,4\n"), (), 2, r"data\.train: more\.parquet: "),
    "a link that leads nowhere": (
        lambda root: (root / "data/train/more.parquet").symlink_to("moved.parquet"),
        (),
        2,
        r"data\.train: more\.parquet is no file, nor a link to one: write it again or remove it",
    ),
    "a pipe": (
        lambda root: os.mkfifo(root / "data/train/more.parquet"),
        (),
        2,
        r"data\.train: more\.parquet is no file",
    ),
    "a device": (
        lambda root: (root / "data/train/more.parquet").symlink_to("/dev/zero"),
        (),
        2,
        r"data\.train: more\.parquet is no file",
    ),
    "a model directory that is a link": (
        lambda root: ((root / "real").mkdir(), (root / "m").symlink_to("real")),
        ("paths.model_dir=m",),
        0,
        "",
    ),
    "a file that was cut": (
        lambda root: written("data/train/more.parquet", next((root / "data/train").iterdir()).read_bytes()[:-9])(root),
        (),
        2,
        r"data\.train: more\.parquet: is truncated",
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_input(name: str, commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    change, overrides, code, line = INPUTS[name]
    shutil.copytree(finished / "data", tmp_path / "data")
    change(tmp_path)
    ended = commands.train(tmp_path, "schema.id=row_id", *overrides)
    check(ended, code, ends)
    if line:
        assert re.match(line, ended.said[0]), ended.err


def test_a_second_command_leaves_the_first_ones_configuration(commands: Commands, run_copy: Path, ends: Ends) -> None:
    before = {path.name: file_digest(path) for path in (run_copy / "out" / ".hydra").iterdir()}
    assert before
    with exclusive(run_copy / "out"):
        ended = commands.train(run_copy, *TRAIN, "seed=7")
    check(ended, 2, ends)
    assert ended.said == ["paths.output_dir: another run is writing to out: choose another one"]
    assert {path.name: file_digest(path) for path in (run_copy / "out" / ".hydra").iterdir()} == before


MODEL_FILES = ("model.safetensors", "model.json", "encoder.json", "golden.parquet", "schema.json", "code/inference.py")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", MODEL_FILES)
def test_flipped_model(name: str, seed: int, commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    shutil.copytree(finished / "out" / "model", tmp_path / "out" / "model")
    file = tmp_path / "out" / "model" / name
    content = file.read_bytes()
    file.write_bytes(flipped(content, int(np.random.default_rng(seed).integers(len(content)))))
    ended = commands.predict(tmp_path, str(finished / "data" / "test"))
    check(ended, 2, ends)
    assert f"{name} is damaged or was changed" in ended.err
    assert not (tmp_path / "p.parquet").exists()


@pytest.mark.parametrize("seed", range(30))
def test_flipped_table(seed: int, commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    """With the checksums of its pages, a table is read as it was written or refused."""
    pq.write_table(tables()["test"], tmp_path / "t.parquet", write_page_checksum=True)
    (tmp_path / "out").symlink_to(finished / "out")
    assert commands.predict(tmp_path, "t.parquet", "good.parquet").code == 0
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(flipped(content, int(np.random.default_rng(seed).integers(len(content)))))
    ended = commands.predict(tmp_path, "t.parquet")
    check(ended, 0 if ended.code == 0 else 2, ends)
    if ended.code == 0:  # the bit says nothing of the rows, or of the names of columns that are not read
        good, now = (pq.read_table(tmp_path / name) for name in ("good.parquet", "p.parquet"))
        assert now.select(["prob_no", "prob_yes"]).equals(good.select(["prob_no", "prob_yes"]))


@pytest.mark.parametrize("kind", ["last", "best"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_flipped_checkpoint(kind: str, seed: int, commands: Commands, run_copy: Path, ends: Ends) -> None:
    """The one before it takes its place, and training goes on to the same weights."""
    file = max((run_copy / "out" / "checkpoints").glob(f"{kind}-*.ckpt"))
    content = file.read_bytes()
    file.unlink()  # it may have a second name
    file.write_bytes(flipped(content, int(np.random.default_rng(seed).integers(len(content)))))
    before = (run_copy / "out" / "model" / "model.safetensors").read_bytes()
    ended = commands.train(run_copy, *TRAIN)
    check(ended, 0, ends)
    assert (run_copy / "out" / "model" / "model.safetensors").read_bytes() == before


LOST = ("EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "ENODEV", "ENOSPC", "EDQUOT", "EMFILE")
OUR_OWN = ("EACCES", "EROFS", "EPERM")
SOME = ("ESTALE", "EACCES")  # one of each class; all of them meet a prediction, which is cheaper than a run
PREDICT = ("os:replace", "os:fsync", "tabstep.artifact.prediction_files:write_batches")
FIT = ("tabstep.artifact.save:save", "tabstep.run.done_file:mark_finished", "tabstep.system.cache:_replace")


@pytest.mark.parametrize("name", LOST + OUR_OWN)
@pytest.mark.parametrize("point", PREDICT)
def test_a_write_that_fails_in_a_prediction(
    point: str, name: str, commands: Commands, finished: Path, tmp_path: Path, ends: Ends
) -> None:
    (tmp_path / "out").symlink_to(finished / "out")
    (tmp_path / "p.parquet").write_text("before")
    ended = commands.predict(tmp_path, str(finished / "data" / "test"), fault=(point, 1, name))
    check(ended, 75 if name in LOST else 2, ends)
    assert (tmp_path / "p.parquet").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "p.parquet"]


@pytest.mark.parametrize("name", [error for error in LOST if error not in ("ENOSPC", "EDQUOT")])
def test_a_read_that_fails(name: str, commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    (tmp_path / "out").symlink_to(finished / "out")
    fault = ("tabstep.tables.locations:Location.state", 1, name)
    ended = commands.predict(tmp_path, str(finished / "data" / "test"), fault=fault)
    check(ended, 75, ends)
    assert "run again when the storage is back" in ended.err


@pytest.mark.parametrize(
    ("point", "name"),
    [
        pytest.param(point, name, marks=[] if name in SOME else pytest.mark.slow)
        for name in LOST + OUR_OWN
        for point in FIT
    ],
)
def test_a_write_that_fails_in_a_run(
    point: str, name: str, commands: Commands, finished: Path, tmp_path: Path, ends: Ends
) -> None:
    """The same command then ends as if nothing had been."""
    (tmp_path / "data").symlink_to(finished / "data")
    ended = commands.train(tmp_path, *TRAIN, fault=(point, 1, name))
    check(ended, 75 if name in LOST else 2, ends)
    ended = commands.train(tmp_path, *TRAIN)
    assert (ended.code, ended.err) == (0, "")
    weights = (tmp_path / "out" / "model" / "model.safetensors").read_bytes()
    assert weights == (finished / "out" / "model" / "model.safetensors").read_bytes()


POINTS = [
    ("tabstep.training.classifier:Classifier.training_step", 3),
    ("tabstep.training.callbacks.when_to_save:Checkpointer._save", 1),
    ("tabstep.training.classifier:Classifier.validation_step", 1),
    ("tabstep.training.classifier:Classifier.on_train_epoch_end", 1),
    ("tabstep.run.prepare:encode_table", 2),
    ("tabstep.artifact.save:save", 1),
    ("tabstep.run.run:write_json", 1),
    ("tabstep.run.done_file:mark_finished", 1),
    ("os:replace", 1),
    ("os:replace", 5),
    ("os:fsync", 9),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -9), ("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize(("point", "call"), POINTS)
def test_killed(
    point: str, call: int, name: str, code: int, commands: Commands, finished: Path, tmp_path: Path, ends: Ends
) -> None:
    (tmp_path / "data").symlink_to(finished / "data")
    ended = commands.train(tmp_path, *TRAIN, fault=(point, call, name))
    assert ended.code == code, ended.err
    ended = commands.train(tmp_path, *TRAIN)
    check(ended, 0, ends)
    weights = (tmp_path / "out" / "model" / "model.safetensors").read_bytes()
    assert weights == (finished / "out" / "model" / "model.safetensors").read_bytes()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["epochs"] == 2
