"""A finished run, or a cache, of which a file is lost, cut, changed or something else: the same command mends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Commands, flipped
from tests.faults.test_commands import TRAIN, check

Ends = Callable[[str], None]
WEIGHTS = Path("out", "model", "model.safetensors")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(flipped(content, len(content) // 2))


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "lost": Path.unlink,
    "cut": cut,
    "flipped": flip,
    "a directory": become_directory,
    "a link to itself": become_loop,
    "a pipe": become_pipe,
}
RESULTS = (
    *("metrics.csv", "report.json", "DONE", "predictions/val.parquet", "predictions/test.parquet"),
    *("model/model.safetensors", "model/manifest.json", "model/encoder.json", "model/golden.parquet"),
    *("model/config.yaml", "model/MODEL_CARD.md", "model/code/inference.py", "model/code/tabstep/__init__.py"),
)
CACHED = ("x_num.bin", "x_cat.bin", "y.bin", "rows.arrow", "meta.json", "text")
FAST = {("lost", "metrics.csv"), ("flipped", "metrics.csv"), ("a pipe", "y.bin"), ("a pipe", "text")}


def each(names: tuple[str, ...], damages: tuple[str, ...]) -> list[object]:
    pairs = [(damage, name) for name in names for damage in damages]
    return [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in pairs]


@pytest.mark.parametrize(("damage", "name"), each(RESULTS, ("lost", "cut", "flipped")))
def test_result(damage: str, name: str, commands: Commands, finished: Path, run_copy: Path, ends: Ends) -> None:
    DAMAGES[damage](run_copy / "out" / name)
    check(commands.train(run_copy, *TRAIN), 0, ends)
    assert (run_copy / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    again = commands.train(run_copy, *TRAIN)
    assert "this run is complete" in again.out
    if name == "metrics.csv" or name.startswith("predictions/"):
        assert (run_copy / "out" / name).read_bytes() == (finished / "out" / name).read_bytes()


@pytest.mark.parametrize(("damage", "name"), each(CACHED, tuple(DAMAGES)))
def test_cache(damage: str, name: str, commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    (tmp_path / "data").symlink_to(finished / "data")
    shutil.copytree(finished / "cache", tmp_path / "cache")
    files = list((tmp_path / "cache").rglob(name))
    assert files
    for file in files:
        DAMAGES[damage](file)
    check(commands.train(tmp_path, *TRAIN), 0, ends)
    assert (tmp_path / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()


def test_entries_that_were_swapped(commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    (tmp_path / "data").symlink_to(finished / "data")
    shutil.copytree(finished / "cache", tmp_path / "cache")
    one, two, *_ = sorted(path.parent for path in (tmp_path / "cache").glob("*/meta.json"))
    one.rename(tmp_path / "aside")
    two.rename(one)
    (tmp_path / "aside").rename(two)
    check(commands.train(tmp_path, *TRAIN), 0, ends)
    assert (tmp_path / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()


def test_texts_that_were_swapped(commands: Commands, finished: Path, tmp_path: Path, ends: Ends) -> None:
    """What stands in an entry says which one it is of."""
    (tmp_path / "data").symlink_to(finished / "data")
    shutil.copytree(finished / "cache", tmp_path / "cache")
    files = sorted((tmp_path / "cache").glob("*/text"))
    contents = [file.read_bytes() for file in files]
    assert len(files) > 2
    for file, content in zip(files, contents[1:] + contents[:1], strict=True):
        file.write_bytes(content)
    check(commands.train(tmp_path, *TRAIN), 0, ends)
    assert (tmp_path / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
